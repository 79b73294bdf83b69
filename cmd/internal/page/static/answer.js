// The state of one streamed chat completion: its text, times and usage. It has no I/O and no document.

/** createAnswer returns the answer to a request body that was sent at a time in milliseconds. */
export function createAnswer(body, sentAt) {
	const a = {
		body, sentAt, firstAt: null, lastAt: null, endedAt: null, done: false,
		text: '', reasoning: '', parts: 0, usage: null, headers: '', backend: '', reason: '', status: 0, problem: '', complete: false,
		/** add takes the data of an event that arrived at a time. */
		add(data, at) {
			if (data === '[DONE]') {
				a.complete = true;
				return;
			}
			let event;
			try {
				event = JSON.parse(data);
			} catch {
				a.fail('An event of the answer is not JSON.');
				return;
			}
			if (event.error) {
				a.fail(event.error.message ?? 'The answer ended with an error.');
				return;
			}
			if (event.usage) a.usage = event.usage;
			for (const choice of event.choices ?? []) {
				const delta = choice.delta ?? {};
				const reasoning = delta.reasoning_content ?? delta.reasoning ?? '';
				const text = delta.content ?? '';
				if (!text && !reasoning) continue;
				a.firstAt ??= at;
				a.lastAt = at;
				a.parts++;
				a.text += text;
				a.reasoning += reasoning;
			}
		},
		fail(message) {
			a.problem ||= message;
			a.done = true;
		},
		end(at) {
			a.done = true;
			a.endedAt = at;
			if (!a.complete && !a.problem && a.status < 400) a.fail('The answer ended before its end mark.');
		},
	};
	return a;
}

const shortest = 100; // milliseconds: over less, the tokens that arrive together make the speed meaningless

/** speed is the tokens per second after the first one; null = unknown. Without a usage, each event counts as a token. */
export function speed(a) {
	const tokens = a.usage?.completion_tokens ?? a.parts;
	if (a.firstAt === null || tokens < 2 || a.lastAt - a.firstAt < shortest) return null;
	return (tokens - 1) / ((a.lastAt - a.firstAt) / 1000);
}

/** costOf is what an answer cost: {amount, exact}; null = unknown. route is what its model belongs to. */
export function costOf(a, route) {
	if (typeof a.usage?.cost === 'number') return {amount: a.usage.cost, exact: true};
	const local = route && route.local && a.backend === route.primary;
	if (local) return {amount: 0, exact: true};
	if (!a.usage || !route || route.price_in === null || route.price_out === null || (!route.paid && !route.fallback_paid)) return null;
	return {amount: (a.usage.prompt_tokens * route.price_in + a.usage.completion_tokens * route.price_out) / 1e6, exact: false};
}
