// One call: what the ledger has about it, and its attempts with their reasons.

import * as api from './api.js';
import {status, tokens} from './calls.js';
import {h} from './dom.js';
import {count, milliseconds, number, unknown, usd} from './format.js';
import {empty, moment, none, table, value} from './parts.js';

export const title = 'Call';

export function create({id, redraw}) {
	const abort = new AbortController();
	let call = null;
	let problem = null;
	let asked = false;

	async function load() {
		asked = true;
		try {
			call = await api.call(id, abort.signal);
		} catch (error) {
			if (error.name === 'AbortError') return;
			problem = error;
		}
		redraw();
	}

	return {
		enter: () => asked || load(),
		leave: () => abort.abort(),
		signedIn() {
			problem = null;
			load();
		},
		draw() {
			const back = h('p', {key: 'back'}, h('a', {href: '/ui/calls'}, '← Calls'));
			if (problem) return [back, h('h1', {}, 'Call ' + id), problem.status === 404 ? empty('The ledger has no such call.', h('p', {class: 'muted'}, 'It may belong to another key, or be older than the ledger keeps.')) : h('p', {class: 'problem', role: 'alert'}, problem.message)];
			if (!call) return [back, h('h1', {}, 'Call ' + id), h('p', {class: 'muted'}, 'Reading the ledger ...')];
			return [back, h('h1', {}, `Call ${id}`), facts(call), attempts(call)];
		},
	};
}

function facts(c) {
	const fact = (name, text) => h('div', {key: name}, h('dt', {}, name), h('dd', {}, text));
	return h('dl', {class: 'pairs'},
		fact('Time', moment(c.time, 'full')),
		fact('Request id', c.request_id ? h('code', {}, c.request_id) : none()),
		fact('Key', c.key || none()),
		fact('Model', h('code', {}, c.model || unknown)),
		fact('Route', c.route ? h('code', {}, c.route) : none()),
		fact('Answered by', c.backend ? [c.backend, c.backend_model && c.backend_model !== c.backend ? h('span', {class: 'muted'}, ' as ', h('code', {}, c.backend_model)) : null] : none()),
		fact('Why not local', c.reason ? h('span', {class: 'reason'}, c.reason) : c.local ? 'a local server answered' : 'its route is not local'),
		fact('Status', status(c)),
		fact('Stream', c.stream ? 'yes' : 'no'),
		fact('Wait for a slot or model', c.wait_ms === null || c.wait_ms === undefined ? 'none' : milliseconds(c.wait_ms)),
		fact('First token', c.first_ms === null || c.first_ms === undefined ? none() : milliseconds(c.first_ms)),
		fact('Duration', value(milliseconds(c.ms))),
		fact('Tokens', tokens(c)),
		fact('Tokens per second', speed(c)),
		fact('Of the prompt, cached', value(count(c.cached_tokens))),
		fact('Cost', value(usd(c.cost_usd))),
		fact('Saved', c.local ? value(usd(c.saved_usd)) : none()));
}

// speed is that of the generation: from the first token to the end.
function speed(c) {
	const s = c.first_ms === null || c.first_ms === undefined ? 0 : (c.ms - c.first_ms) / 1000;
	return c.stream && c.completion_tokens > 1 && s > 0.1 ? number((c.completion_tokens - 1) / s, 0) : none();
}

function attempts(c) {
	const rows = (c.attempts ?? []).map((a, i) => ({...a, i}));
	const heading = h('h2', {}, 'Attempts');
	if (rows.length === 0) return [heading, h('p', {class: 'muted'}, 'One attempt: ' + (c.backend || 'no backend was tried') + '.')];
	return [heading, table({
		caption: 'Attempts', key: (a) => a.i, rows, className: 'attempts',
		columns: [
			{id: 'n', head: 'No.', cell: (a) => count(a.i + 1)},
			{id: 'backend', head: 'Backend', cell: (a) => [a.backend, a.model && a.model !== a.backend ? h('span', {class: 'muted'}, ' as ', h('code', {}, a.model)) : null]},
			{id: 'reason', head: 'Ended with', cell: (a) => (a.reason ? h('span', {class: 'reason'}, a.reason) : 'the answer')},
			{id: 'status', head: 'Status', cell: (a) => a.status || none()},
			{id: 'ms', head: 'Duration', right: true, cell: (a) => value(milliseconds(a.ms))},
			{id: 'cost', head: 'Cost', right: true, cell: (a) => value(usd(a.cost_usd))},
			{id: 'detail', head: 'Detail', wide: true, cell: (a) => a.detail || none()},
		],
	})];
}
