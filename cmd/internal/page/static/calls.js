// Calls: the ledger. Filters are in the address, so that a link opens the same rows. There are no prompts and no answers in it.

import * as api from './api.js';
import {h, words} from './dom.js';
import {amount, count, milliseconds, plural, time, unknown} from './format.js';
import {button, copyable, curl, empty, moment, none, select, table, value} from './parts.js';
import {periods, sinceOf} from './period.js';

export const title = 'Calls';

const page = 100;
const names = ['since', 'until', 'model', 'key', 'backend', 'reason', 'status'];
export const reasons = ['unloaded', 'starting', 'loading', 'restarting', 'draining', 'drained', 'degraded', 'failed', 'saturated', 'connect', 'timeout', 'stalled', 'lost', 'status', 'context_overflow', 'unsupported', 'bad_response', 'budget', 'limited'];

export function create(context) {
	const {store, redraw} = context;
	let shown = null; // the filters whose rows are shown, as text
	let filters = {}; // as they were sent
	let rows = [];
	let next = '';
	let keys = [];
	let problem = '';
	let loading = null;
	let seen = null; // calls of today when the rows were read
	let read = 0; // when
	let sort = null;
	let held = false;

	const current = () => Object.fromEntries(names.map((n) => [n, context.params.get(n) ?? '']));

	async function load(more = false) {
		loading?.abort();
		const mine = loading = new AbortController();
		problem = '';
		const f = current();
		if (!more) {
			// The end is fixed, so that the export has the rows of the table and no later ones.
			filters = {...f, since: sinceOf(f.since || '24h', store.now()), until: f.until || new Date(store.now()).toISOString()};
			read = Date.now();
			seen = store.state.sections.today?.calls;
		}
		redraw();
		try {
			const answer = await api.calls({...filters, limit: page, after: more ? next : ''}, mine.signal);
			rows = [...(more ? rows : []), ...(answer.calls ?? [])];
			next = answer.next ?? '';
		} catch (error) {
			if (error.name === 'AbortError') return;
			problem = error.message;
		}
		if (loading === mine) loading = null;
		redraw();
	}

	async function loadKeys() {
		try {
			keys = (await api.usage({since: sinceOf('30d', store.now()), by: 'key'})).groups.map((g) => g.name).filter(Boolean);
			redraw();
		} catch {
			// without them, the key in the address still filters
		}
	}

	// follow reads new calls as long as that moves nothing that the user looks at; otherwise a button offers it.
	function follow(calls) {
		if (calls === undefined || seen === undefined || calls === seen || loading) return null;
		const still = scrollY < 8 && !held && sort === null && rows.length <= page && getSelection()?.isCollapsed !== false;
		if (still && !current().until) {
			if (Date.now() - read > 2000) load();
			return null;
		}
		return button('Show newer calls', () => load(), {kind: 'primary', key: 'newer'});
	}

	function set(name, text) {
		const f = {...current(), [name]: text.trim()};
		context.go('/ui/calls' + (api.query(f) ? '?' + api.query(f) : ''), {replace: true});
	}

	return {
		enter() {
			const text = JSON.stringify(current());
			if (text === shown) return;
			if (shown === null) loadKeys();
			shown = text;
			load();
		},
		signedIn() { // maybe with another key
			shown = null;
			rows = [];
			next = '';
		},
		leave: () => loading?.abort(),
		draw(state) {
			const s = state.sections;
			const f = current();
			const any = names.some((n) => f[n]);
			return [
				h('h1', {}, 'Calls'),
				filterRow(f, s, keys, set, any && (() => context.go('/ui/calls', {replace: true}))),
				h('div', {class: 'row bar-row'}, h('span', {class: 'muted', 'aria-live': 'polite'}, loading ? 'Reading the ledger ...' : `${plural(rows.length, 'call')}${next ? ', and more' : ''}, newest first`), h('span', {class: 'grow'}), follow(s.today?.calls),
					h('a', {class: 'button', href: api.csvAddress(filters), download: 'llmsup-calls.csv'}, 'Export CSV')),
				problem && h('p', {class: 'problem', role: 'alert'}, problem),
				rows.length === 0 && !loading && !problem ? (any ? empty('No call matches these filters.', h('p', {class: 'muted'}, 'Choose a longer time, or clear the filters.')) : empty('No calls in the last 24 hours. Try:', copyable(curl(s.routes?.find((r) => r.local)?.name ?? 'local', s.viewer?.keys), redraw))) : null,
				rows.length > 0 && h('div', {key: 'rows', onpointerenter: () => { held = true; }, onpointerleave: () => { held = false; }},
					list(rows, sort, (to) => { sort = to; redraw(); })),
				next && button(loading ? 'Loading ...' : 'Show older calls', () => load(true), {disabled: loading !== null, key: 'older'}),
				h('p', {class: 'muted small'}, 'Sorting orders the rows above; the export has all calls of these filters. The ledger has no prompts and no answers.'),
			];
		},
	};
}

function filterRow(f, s, keys, set, clear) {
	const choice = (label, name, all, values) => select(label, f[name], [['', all], ...new Set([...values, ...(f[name] ? [f[name]] : [])])], (v) => set(name, v));
	const models = [...new Set([...(s.routes ?? []).map((r) => r.name)])];
	return h('div', {key: 'filters', class: 'filters', role: 'search', 'aria-label': 'Filters'},
		select('Time', f.since || '24h', [...periods, ...(f.since && !periods.some(([v]) => v === f.since) ? [[f.since, `${time(f.since, 'short')} to ${f.until ? time(f.until, 'short') : 'now'}`]] : [])], (v) => set('since', v)),
		h('label', {class: 'field'}, h('span', {}, 'Model'), h('input', {list: 'models', placeholder: 'all', spellcheck: 'false', autocomplete: 'off', onchange: (event) => set('model', event.target.value), created: (el) => { el.value = f.model; }})),
		h('datalist', {id: 'models'}, models.map((m) => h('option', {key: m, value: m}))),
		choice('Key', 'key', 'all', keys),
		choice('Backend', 'backend', 'all', [...(s.servers ?? []), ...(s.upstreams ?? [])].map((b) => b.name)),
		choice('Why not local', 'reason', 'all', reasons),
		select('Status', f.status, [['', 'all'], ['2xx', '2xx answered'], ['4xx', '4xx client errors'], ['5xx', '5xx failures'], ...(f.status && !/^[245]xx$/.test(f.status) ? [f.status] : [])], (v) => set('status', v)),
		clear && button('Clear', clear, {kind: 'quiet'}));
}

/** status shows an HTTP status with its meaning. */
export function status(c) {
	if (!c.status) return h('span', {class: 'state none'}, 'none');
	const kind = c.status >= 500 ? 'bad' : c.status >= 400 ? 'warn' : '';
	return h('span', {class: words('state', kind)}, kind && h('span', {'aria-hidden': 'true'}, '▲ '), c.status, c.partial ? ' partial' : c.resumed ? ' resumed' : '');
}

/** tokens shows the prompt's and the answer's tokens. */
export const tokens = (c) => (c.prompt_tokens === null && c.completion_tokens === null ? value(unknown) : [value(count(c.prompt_tokens)), ' → ', value(count(c.completion_tokens))]);

// whole shows a name that the width of its column may cut; the title has all of it.
const whole = (name) => (name ? h('span', {title: name}, name) : none());

function list(rows, sort, onSort) {
	const optional = (ms) => (ms === null || ms === undefined ? none() : milliseconds(ms));
	return table({
		caption: 'Calls', key: (c) => c.id, rows, sort, onSort, className: 'calls', rowClass: (c) => words(c.status >= 500 && 'bad-row'),
		columns: [
			{id: 'time', head: 'Time', sort: (c) => Date.parse(c.time), cell: (c) => h('a', {href: '/ui/calls/' + encodeURIComponent(c.id)}, moment(c.time))},
			{id: 'model', head: 'Model', sort: (c) => c.model, cell: (c) => h('code', {title: c.model || null}, c.model || unknown)},
			{id: 'key', head: 'Key', sort: (c) => c.key, cell: (c) => whole(c.key)},
			{id: 'backend', head: 'Backend', sort: (c) => c.backend, cell: (c) => whole(c.backend)},
			{id: 'reason', head: 'Why not local', sort: (c) => c.reason || null, cell: (c) => (c.reason ? h('span', {class: 'reason'}, c.reason) : none())},
			{id: 'status', head: 'Status', sort: (c) => c.status, cell: status},
			{id: 'wait', head: 'Wait', right: true, sort: (c) => c.wait_ms, cell: (c) => optional(c.wait_ms)},
			{id: 'first', head: 'First token', right: true, sort: (c) => c.first_ms, cell: (c) => optional(c.first_ms)},
			{id: 'ms', head: 'Duration', right: true, sort: (c) => c.ms, cell: (c) => value(milliseconds(c.ms))},
			{id: 'tokens', head: 'Tokens', right: true, sort: (c) => c.completion_tokens, cell: tokens},
			{id: 'cost', head: 'Cost, USD', right: true, sort: (c) => c.cost_usd, cell: (c) => value(amount(c.cost_usd))},
			{id: 'saved', head: 'Saved, USD', right: true, sort: (c) => c.saved_usd, cell: (c) => (c.local ? value(amount(c.saved_usd)) : none())},
		],
	});
}
