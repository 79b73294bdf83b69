// The calls in flight. Rows keep their place while the pointer or the focus is in the table: new calls are appended as long as there is
// room, and ended ones stay, in grey, until it leaves.

import {h, words} from './dom.js';
import {amount, between, count, number, plural, seconds, unknown} from './format.js';
import {button, copyable, curl, empty, none, table, value} from './parts.js';

const most = 500; // rows, as many as the daemon sends

/** createInflight returns the table. */
export function createInflight({store, redraw, commands}) {
	let order = []; // ids in the order of the rows
	const ended = new Map(); // id -> call that ended while the order was held
	let held = false;
	let hidden = 0; // calls without a row because there is no room while the order is held
	let known = new Map();
	const speeds = new Map(); // id -> {at, tokens, rate}

	function hold(value) {
		if (held === value) return;
		held = value;
		if (!held) ended.clear();
		redraw();
	}

	function rows(calls, now) {
		const byId = new Map(calls.map((c) => [c.id, c]));
		if (held) {
			for (const id of order) if (!byId.has(id) && !ended.has(id)) ended.set(id, {...known.get(id), ended: true});
			const before = new Set(order);
			const fresh = calls.filter((c) => !before.has(c.id)).map((c) => c.id);
			order = [...order, ...fresh.slice(0, Math.max(0, most - order.length))];
			hidden = fresh.length - (order.length - before.size);
		} else {
			order = calls.map((c) => c.id);
			hidden = 0;
		}
		known = byId;
		for (const id of speeds.keys()) if (!byId.has(id)) speeds.delete(id);
		for (const call of calls) measure(call, now);
		return order.map((id) => byId.get(id) ?? ended.get(id));
	}

	// measure keeps the tokens per second since the first answer, as the mean over the call.
	function measure(call, now) {
		const before = speeds.get(call.id);
		if (before && before.tokens === call.tokens) return;
		const s = between(call.first_answer, now);
		speeds.set(call.id, {tokens: call.tokens, rate: call.tokens > 1 && s > 0.2 ? (call.tokens - 1) / s : null});
	}

	return {
		draw(s) {
			const now = store.now();
			const calls = s.inflight?.calls ?? [];
			const total = s.inflight?.total ?? 0;
			const shown = rows(calls, now);
			const heading = h('h2', {}, `In flight (${count(total)})`, held && shown.length > 0 ? h('span', {class: 'muted small'}, ` order held while you are in the table${hidden > 0 ? `; ${plural(hidden, 'newer call')} not shown` : ''}`) : null);
			if (shown.length === 0) {
				return h('section', {key: 'inflight', 'aria-label': 'Calls in flight'}, heading,
					empty('No call is running now.', s.today?.calls === 0 ? [h('p', {}, 'Make the first one:'), copyable(curl(s.routes?.find((r) => r.local)?.name ?? 'local', s.viewer?.keys), redraw)] : h('p', {class: 'muted'}, 'Ended calls are under ', h('a', {href: '/ui/calls'}, 'Calls'), '.')));
			}
			return h('section', {
				key: 'inflight', 'aria-label': 'Calls in flight', onpointerenter: () => hold(true), onpointerleave: () => hold(false), onfocusin: () => hold(true), onfocusout: () => hold(false),
			}, heading, total > calls.length && h('p', {class: 'muted'}, `The oldest ${count(calls.length)} of ${count(total)} calls.`), table({
				caption: 'Calls in flight', key: (c) => c.id, rows: shown, className: 'inflight', rowClass: (c) => words(c.ended && 'ended'),
				columns: [
					{id: 'model', head: 'Model', cell: (c) => h('code', {title: `${c.path} ${c.id}`}, c.model || unknown)},
					{id: 'key', head: 'Key', cell: (c) => c.key || none()},
					{id: 'backend', head: 'Backend', cell: (c) => c.backend || none()},
					{id: 'reason', head: 'Why not local', cell: (c) => (c.reason ? h('span', {class: 'reason'}, c.reason) : none())},
					{id: 'phase', head: 'Phase', cell: (c) => phase(c)},
					{id: 'age', head: 'Age', right: true, cell: (c) => (c.ended ? none() : seconds(between(c.started, now)))},
					{id: 'tokens', head: 'Tokens', right: true, cell: (c) => value(count(c.tokens))},
					{id: 'rate', head: 'Tokens/s', right: true, cell: (c) => (speeds.get(c.id)?.rate ? number(speeds.get(c.id).rate, 0) : none())},
					{id: 'cost', head: 'Cost, USD', right: true, cell: (c) => value(amount(c.cost_usd))},
					{id: 'cancel', head: '', label: 'Cancel', cell: (c) => (c.ended ? none() : button('Cancel', () => commands.cancel(c), {kind: 'quiet', label: `Cancel the call of ${c.key || 'no key'} for ${c.model}`, denied: commands.denied()}))},
				],
			}));
		},
		leave() {
			held = false;
			ended.clear();
		},
	};
}

const phases = {waiting_for_model: 'waits for model', waiting_for_slot: 'waits for slot', continuing: 'continues elsewhere'};

function phase(c) {
	const name = c.ended ? 'ended' : phases[c.phase] ?? c.phase;
	const text = c.place > 0 && !c.ended ? `${name}, place ${count(c.place)}` : name;
	return h('span', {title: text}, text);
}
