// The state of the page: the sections that the daemon sends (see README.md beside this folder), and the connection to it. It has no
// I/O and no document, so that node can test it.

/** A connection whose last event is older than this shows old values, which turn grey. Milliseconds. */
export const staleAfter = 10_000;

const maxLines = 2000; // of the logs

/** createStore returns the store. now is the clock, in milliseconds. */
export function createStore(now = Date.now) {
	const state = {
		connection: 'connecting', // connecting, live, reconnecting, signin
		since: now(), // of the connection's state
		retryAt: null, // when the next attempt begins
		problem: '', // why the connection broke
		skew: 0, // the daemon's clock minus the browser's, in milliseconds
		sections: {},
		lastId: '',
		lines: [], // of the logs, oldest first
		results: [], // of commands
	};
	const subscribers = new Set();
	let lineNumber = 0;
	let resultNumber = 0;
	const changed = () => subscribers.forEach((f) => f(state));

	const store = {
		state,
		subscribe(f) {
			subscribers.add(f);
			return () => subscribers.delete(f);
		},
		/** apply takes an event of the stream; it ignores kinds that it does not know. */
		apply({event, data, id}) {
			const value = JSON.parse(data);
			if (event === 'snapshot') state.sections = value;
			else if (event === 'change') state.sections = {...state.sections, ...value};
			else if (event === 'log') addLine(value);
			else return;
			if (id) state.lastId = id;
			changed();
		},
		connected(serverTime) {
			setConnection('live');
			state.problem = '';
			if (serverTime !== null) state.skew = Math.abs(serverTime - now()) < 1500 ? 0 : serverTime - now(); // the header has whole seconds
			changed();
		},
		disconnected(problem, retryAt) {
			setConnection('reconnecting');
			state.problem = problem;
			state.retryAt = retryAt;
			changed();
		},
		/** signIn forgets all that another key may see. */
		signIn() {
			setConnection('signin');
			state.sections = {};
			state.lines = [];
			state.lastId = '';
			changed();
		},
		clearLines() {
			state.lines = [];
			changed();
		},
		/** addResult adds a command, whose entry stays until it is dismissed, and returns what updates it. */
		addResult(title) {
			const result = {id: ++resultNumber, title, state: 'running', at: now(), steps: [], text: ''};
			state.results = [...state.results, result];
			changed();
			return (update) => {
				Object.assign(result, update);
				changed();
			};
		},
		dismiss(id) {
			state.results = state.results.filter((r) => r.id !== id);
			changed();
		},
		/** now is the daemon's time. */
		now: () => now() + state.skew,
		/** stale reports whether the values are too old to be shown as current. */
		stale: () => state.connection !== 'live' && now() - state.since > staleAfter,
	};

	function setConnection(to) {
		if (state.connection !== to) state.since = now();
		state.connection = to;
		state.retryAt = null;
	}

	function addLine(line) {
		// A stream that was resumed repeats the last lines.
		const last = state.lines.findLast((l) => l.server === line.server);
		const at = Date.parse(line.at);
		if (last && at < Date.parse(last.at)) return;
		if (state.lines.some((l) => l.at === line.at && l.text === line.text && l.server === line.server)) return;
		// The daemon sends the last lines of each source before those of the next one.
		const before = state.lines.findLastIndex((l) => !(Date.parse(l.at) > at));
		state.lines.splice(before + 1, 0, {...line, number: ++lineNumber});
		if (state.lines.length > maxLines) state.lines.splice(0, state.lines.length - maxLines);
	}
	return store;
}

/** useUp returns when a budget will be used up at the rate of its window so far: milliseconds, null = not in this window. */
export function useUp(budget, now) {
	const ends = Date.parse(budget.ends);
	const length = budget.period === 'daily' ? 86_400_000 : monthBefore(ends);
	const began = ends - length;
	const used = budget.spent_usd + budget.reserved_usd;
	if (used >= budget.limit_usd) return now;
	if (budget.spent_usd <= 0 || now <= began) return null;
	const at = now + ((budget.limit_usd - used) * (now - began)) / budget.spent_usd;
	return at < ends ? at : null;
}

function monthBefore(ends) {
	const d = new Date(ends);
	return ends - Date.UTC(d.getUTCFullYear(), d.getUTCMonth() - 1, d.getUTCDate());
}
