// Money: what was paid and what local answers saved, by day, model and key, why calls left the GPU, and where the budgets stand.

import * as api from './api.js';
import {bar, lineChart, stackedBars} from './chart.js';
import {h} from './dom.js';
import {amount, count, estimate, percent, plural, seconds, time, unit, usd} from './format.js';
import {button, copyable, curl, empty, none, select, table, value} from './parts.js';
import {daysOf, periods, sinceOf} from './period.js';
import {useUp} from './store.js';

export const title = 'Money';

const kinds = ['day', 'model', 'key', 'reason'];

export function create(context) {
	const {store, redraw} = context;
	const sorts = {model: {by: 'cost', down: true}, key: {by: 'cost', down: true}, reason: {by: 'cost', down: true}};
	let shown = null;
	let since = '';
	let usage = null;
	let problem = '';
	let loading = null;

	async function load() {
		loading?.abort();
		const mine = loading = new AbortController();
		since = sinceOf(shown, store.now());
		problem = '';
		redraw();
		try {
			const answers = await Promise.all(kinds.map((by) => api.usage({since, by}, mine.signal)));
			usage = Object.fromEntries(kinds.map((by, i) => [by, answers[i]]));
		} catch (error) {
			if (error.name === 'AbortError') return;
			problem = error.message;
		}
		if (loading === mine) loading = null;
		redraw();
	}

	return {
		enter() {
			const wanted = context.params.get('since') || '7d';
			if (wanted === shown) return;
			shown = wanted;
			load();
		},
		signedIn() { // maybe with another key
			shown = null;
			usage = null;
		},
		leave: () => loading?.abort(),
		draw(state) {
			const s = state.sections;
			return [
				h('h1', {}, 'Money'),
				h('div', {key: 'filters', class: 'filters'}, select('Time', shown, periods.slice(1), (v) => context.go('/ui/money?since=' + v, {replace: true})), button(loading ? 'Reading ...' : 'Read again', load, {disabled: loading !== null}), usage && h('span', {class: 'muted small'}, `${time(usage.day.from, 'short')} to ${time(usage.day.to, 'short')}`)),
				problem && h('p', {key: 'problem', class: 'problem', role: 'alert'}, problem),
				usage && usage.day.incomplete && h('p', {key: 'incomplete', class: 'muted'}, `Some calls may be missing: ${usage.day.incomplete}`),
				usage ? (usage.day.total.calls === 0 ? empty('No calls in this time. Try:', copyable(curl(s.routes?.find((r) => r.local)?.name ?? 'local', s.viewer?.keys), redraw)) : sums(usage, since, store.now(), redraw)) : loading && h('p', {key: 'wait', class: 'muted'}, 'Reading the ledger ...'),
				budgets(s.budgets, store.now()),
				usage && usage.day.total.calls > 0 && kinds.slice(1).map((by) => groups(by, usage[by], sorts, shown, redraw)),
			];
		},
	};
}

const fact = (name, text, note) => h('div', {key: name, class: 'fact'}, h('dt', {}, name), h('dd', {class: 'big'}, text), h('dd', {class: 'muted small'}, note));

function sums(usage, since, now, redraw) {
	const t = usage.day.total;
	const byDay = new Map(usage.day.groups.map((g) => [g.name, g]));
	const days = daysOf(since, now).map((day) => ({day, sums: byDay.get(day) ?? null})); // a day without a group had no calls
	const label = (day) => time(day + 'T00:00:00Z', 'day', 'UTC');
	return h('section', {key: 'sums', class: 'answers', 'aria-label': 'Sums'},
		h('dl', {},
			fact('Paid', value(usd(t.cost_usd)), t.unknown_cost > 0 ? `without ${plural(t.unknown_cost, 'call')} of unknown cost` : plural(t.paid, 'paid call')),
			fact('Saved', value(usd(t.saved_usd)), t.unknown_saved > 0 ? `without ${plural(t.unknown_saved, 'call')} of unknown price` : 'by local answers, at list prices'),
			fact('Served locally', value(percent(t.local / t.calls)), `${count(t.local)} of ${plural(t.calls, 'call')}`),
			fact('Tokens', value(t.completion_tokens === null ? 'unknown' : count(t.completion_tokens)), `generated; prompts ${count(t.prompt_tokens)}`)),
		stackedBars({
			id: 'days', title: 'USD per day (UTC)', series: ['Saved', 'Paid'], redraw, show: usd, tick: usd,
			bars: days.map((d) => ({label: label(d.day), values: d.sums ? [d.sums.saved_usd, d.sums.cost_usd] : [0, 0]})),
		}),
		lineChart({
			id: 'share', title: 'Served locally per day (UTC)', max: 100, redraw, show: (v) => (v === null ? 'no calls' : unit(v, '%', 1)), tick: (v) => unit(v, '%'), at: (ms) => time(ms, 'day', 'UTC'),
			values: days.map((d) => (d.sums ? (d.sums.local / d.sums.calls) * 100 : null)), times: days.map((d) => Date.parse(d.day)),
		}));
}

function budgets(list, now) {
	const heading = h('h2', {}, 'Budgets');
	if (!(list?.length > 0)) return h('section', {key: 'budgets', 'aria-label': 'Budgets'}, heading, empty('There is no limit on spending.', h('p', {}, 'Set one in llmsup.yaml and reload:'), h('pre', {}, h('code', {}, 'budget: {daily: 5}   # USD'))));
	return h('section', {key: 'budgets', 'aria-label': 'Budgets'}, heading, table({
		caption: 'Budgets', key: (b) => b.key + b.period + (b.fleet ? ' fleet' : ''), rows: list, className: 'budgets',
		columns: [
			{id: 'name', head: 'Budget', cell: (b) => [b.key || 'all calls', h('span', {class: 'muted'}, (b.period === 'daily' ? ', per day' : ', per month') + (b.fleet ? ', all boxes' : ''))]},
			{id: 'bar', head: 'Used', wide: true, cell: (b) => bar([{value: b.spent_usd, className: 'series-1'}, {value: b.reserved_usd, className: 'bar-unlisted'}], b.limit_usd, `${percent(b.spent_usd / b.limit_usd, 0)} used`)},
			{id: 'share', head: 'Share', right: true, cell: (b) => percent(b.spent_usd / b.limit_usd, 0)},
			{id: 'spent', head: 'Spent, USD', right: true, cell: (b) => amount(b.spent_usd)},
			{id: 'reserved', head: 'Reserved, USD', right: true, cell: (b) => amount(b.reserved_usd)},
			{id: 'limit', head: 'Limit, USD', right: true, cell: (b) => amount(b.limit_usd)},
			{id: 'ends', head: 'Renewed in', right: true, cell: (b) => seconds((Date.parse(b.ends) - now) / 1000)},
			{id: 'forecast', head: 'Used up', cell: (b) => forecast(b, now)},
		],
	}), list.filter((b) => b.fleet).map((b) => h('p', {key: 'credit-' + b.key + b.period, class: 'muted'}, credit(b))));
}

// credit says who has what is not spent of a limit that the boxes of the fleet share, as llmsup status does.
function credit(b) {
	const parts = [`${b.key || 'All calls'}, ${b.period === 'daily' ? 'per day' : 'per month'}: ${usd(b.fleet.left_usd)} is not granted to a box yet, and this box has credit for ${usd(b.fleet.granted_usd)}`];
	for (const held of b.fleet.gone) parts.push(`${held.box}, which is not in the fleet, holds ${usd(held.amount_usd)} until it is back or the limit is renewed`);
	if (b.fleet.problem) parts.push(`no more credit can be had: ${b.fleet.problem}`);
	return parts.join('; ') + '.';
}

function forecast(b, now) {
	const at = useUp(b, now);
	if (at === null) return 'not in this period, at this rate';
	if (at <= now) return h('span', {class: 'state bad'}, '▲ now: paid calls are rejected');
	return h('span', {class: 'state warn'}, `▲ in ${seconds((at - now) / 1000)}, at this rate`);
}

const titles = {model: 'By model', key: 'By key', reason: 'Why calls left local'};

function groups(by, answer, sorts, since, redraw) {
	const rows = answer.groups.filter((g) => by !== 'reason' || g.name);
	const heading = h('h2', {}, titles[by]);
	if (rows.length === 0) return h('section', {key: by, 'aria-label': titles[by]}, heading, h('p', {class: 'muted'}, by === 'reason' ? 'No call left local in this time.' : 'No calls.'));
	const link = (g) => (g.name ? h('a', {href: '/ui/calls?' + api.query({[by]: g.name, since})}, g.name) : none());
	const columns = [
		{id: 'name', head: {model: 'Model', key: 'Key', reason: 'Reason'}[by], sort: (g) => g.name, cell: link},
		{id: 'calls', head: 'Calls', right: true, sort: (g) => g.calls, cell: (g) => count(g.calls)},
		by !== 'reason' && {id: 'local', head: 'Served locally', right: true, sort: (g) => g.local / g.calls, cell: (g) => value(percent(g.local / g.calls))},
		{id: 'tokens', head: 'Tokens generated', right: true, sort: (g) => g.completion_tokens, cell: (g) => value(count(g.completion_tokens))},
		{id: 'cost', head: 'Paid, USD', right: true, sort: (g) => g.cost_usd, cell: (g) => value(amount(g.cost_usd))},
		{id: 'each', head: 'Paid per call', right: true, sort: (g) => g.cost_usd / g.calls, cell: (g) => (g.cost_usd === null ? value('unknown') : g.cost_usd === 0 ? usd(0) : 'about ' + estimate(g.cost_usd / g.calls))},
		by !== 'reason' && {id: 'saved', head: 'Saved, USD', right: true, sort: (g) => g.saved_usd, cell: (g) => (g.local > 0 ? value(amount(g.saved_usd)) : none())},
		{id: 'failed', head: 'Failed', right: true, sort: (g) => g.failed, cell: (g) => count(g.failed)},
	].filter(Boolean);
	return h('section', {key: by, 'aria-label': titles[by]}, heading, table({caption: titles[by], key: (g) => g.name, rows, columns, className: 'groups', sort: sorts[by], onSort: (to) => { sorts[by] = to; redraw(); }}));
}
