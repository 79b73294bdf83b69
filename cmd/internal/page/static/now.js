// Now: whether the GPU serves, what goes to the cloud and why, what that cost and what local answers saved today.

import {bar, lineChart} from './chart.js';
import {h, words} from './dom.js';
import {fleetLine} from './fleet.js';
import {between, bytes, count, list, number, ofBytes, percent, plural, seconds, time, unit, unknown, usd} from './format.js';
import {createInflight} from './inflight.js';
import {button, copyable, empty, none, reasonOf, since, state as badge, table, value} from './parts.js';

export const title = 'Now';

export function create(context) {
	const inflight = createInflight(context);
	return {
		draw(state) {
			const s = state.sections;
			return [
				h('h1', {class: 'hidden'}, 'Now'),
				answers(s, context),
				h('section', {key: 'gpus', 'aria-label': 'GPUs'}, h('h2', {}, 'GPUs'), gpus(s, context)),
				h('section', {key: 'servers', 'aria-label': 'Servers and upstreams'}, h('h2', {}, 'Servers'), servers(s, context), upstreams(s, context)),
				inflight.draw(s),
			];
		},
		leave: inflight.leave,
	};
}

// answers are the three questions of a glance: is the GPU serving, what goes elsewhere, what does it cost.
function answers(s, {store}) {
	const t = s.today;
	const servers = s.servers ?? [];
	const alive = servers.some((one) => one.state === 'ready' || one.state === 'degraded');
	const states = [...new Set(servers.map((one) => one.state))].map((state) => `${count(servers.filter((one) => one.state === state).length)} ${state}`);
	const elsewhere = (s.inflight?.calls ?? []).filter((c) => c.reason);
	return h('section', {key: 'answers', class: 'answers', 'aria-label': 'Today'},
		h('dl', {},
			fact('Local models', servers.length === 0 ? h('span', {class: 'muted'}, 'none') : alive ? badge(servers.some((one) => one.state === 'ready') ? 'ready' : 'degraded', 'serving') : badge('failed', 'not serving'), states.join(', ')),
			s.inflight && fact('Elsewhere now', elsewhere.length === 0 ? 'no call' : h('span', {class: 'state warn'}, plural(elsewhere.length, 'call')), elsewhere.length > 0 ? 'why: ' + list([...new Set(elsewhere.map((c) => c.reason))]) : `${plural(s.inflight.total, 'call')} in flight`),
			t && fact('Local answers today (UTC)', value(percent(t.local_calls / t.calls)), t.calls === null ? 'not read from the ledger yet' : `${plural(t.calls, 'call')} · ${count(t.cloud_calls)} to the cloud`),
			t && fact('Saved today (UTC)', value(usd(t.saved_usd)), t.unknown_saved > 0 ? `without ${plural(t.unknown_saved, 'call')} of unknown price` : 'by local answers, at list prices'),
			t && fact('Paid today (UTC)', value(usd(t.paid_usd)), t.calls_unknown_cost > 0 ? `without ${plural(t.calls_unknown_cost, 'call')} of unknown cost` : `since ${time(t.since, 'clock')}`),
			budgetFact(s.budgets, store)),
		s.fleet && fleetLine(s.fleet));
}

const fact = (name, text, note) => h('div', {key: name, class: 'fact'}, h('dt', {}, name), h('dd', {class: 'big'}, text), h('dd', {class: 'muted small'}, note));

function budgetFact(budgets, store) {
	const b = (budgets ?? []).toSorted((x, y) => y.spent_usd / y.limit_usd - x.spent_usd / x.limit_usd)[0];
	if (!b) return fact('Budget', h('span', {class: 'muted'}, 'no limit'), 'set budget: in llmsup.yaml');
	return fact(`Budget (${b.period === 'daily' ? 'day' : 'month'}${b.key ? ', ' + b.key : ''}${b.fleet ? ', all boxes' : ''})`, percent(b.spent_usd / b.limit_usd, 0), `of ${usd(b.limit_usd)}, renewed in ${seconds(between(store.now(), b.ends))}`);
}

function gpus(s, {redraw}) {
	if (!(s.gpus?.length > 0)) return empty(s.gpu_problem || 'No GPU can be read here.', h('p', {class: 'muted'}, 'llmsup serves without one. ', h('code', {}, 'llmsup check'), ' says what it needs to read a GPU.'));
	return s.gpus.map((gpu) => {
		const past = s.history?.gpus?.find((g) => g.uuid === gpu.uuid);
		const parts = vramParts(gpu);
		const text = `VRAM ${ofBytes(gpu.memory_used_bytes, gpu.memory_total_bytes)}`;
		return h('article', {key: gpu.uuid, class: 'gpu'},
			h('div', {class: 'gpu-head'}, h('h3', {}, `GPU ${gpu.index} `, h('span', {class: 'muted'}, gpu.name)),
				gpu.health !== 'ok' && h('span', {}, badge(gpu.health), gpu.reason ? ': ' + gpu.reason : ''),
				h('span', {class: 'grow'}), h('span', {class: 'number'}, value(text))),
			bar(parts, gpu.memory_total_bytes ?? 0, `${text}: ${parts.map((p) => `${p.name} ${bytes(p.value)}`).join(', ')}`),
			h('ul', {class: 'legend-list'}, parts.map((p) => h('li', {key: p.name}, h('span', {class: 'swatch ' + p.className, 'aria-hidden': 'true'}), p.name, ' ', h('span', {class: 'number'}, bytes(p.value))))),
			past ? h('div', {class: 'charts'}, charts(gpu, past, s.history, redraw)) : h('p', {class: 'muted small'}, 'The last hour appears here after the first minute.'));
	});
}

// vramParts are the parts of a GPU's memory as the daemon computes them.
function vramParts(gpu) {
	let server = 0;
	return (gpu.memory_parts ?? []).map((part) => {
		if (part.kind === 'server') return {name: part.server, value: part.bytes, className: 'series-' + (server++ % 4)};
		return {name: {foreign: 'other processes', unlisted: 'not attributed', free: 'free'}[part.kind] ?? part.kind, value: part.bytes, className: 'bar-' + part.kind};
	});
}

function charts(gpu, past, history, redraw) {
	const chart = (name, now, values, max, show, tick) => {
		const end = Date.parse(history.until);
		return lineChart({id: `${gpu.uuid}-${name}`, title: name, now: show(now), values, max, show, tick, redraw, at: (ms) => time(ms, 'clock'), times: values.map((_, i) => end - (values.length - 1 - i) * history.interval_seconds * 1000)});
	};
	const gib = 2 ** 30;
	return [
		chart('Utilisation', gpu.utilization_percent, past.utilization, 100, (v) => unit(v, '%'), (v) => unit(v, '%')),
		chart('VRAM', gpu.memory_used_bytes, past.memory_used, gpu.memory_total_bytes, bytes, (v) => unit(v / gib, 'GiB')),
		chart('Temperature', gpu.temperature_celsius, past.temperature, Math.max(100, ...past.temperature), (v) => unit(v, '°C'), (v) => unit(v, '°C')),
		chart('Power', gpu.power_watts, past.power, gpu.power_limit_watts ?? null, (v) => unit(v, 'W'), (v) => unit(v, 'W')),
	];
}

function servers(s, context) {
	if (!(s.servers?.length > 0)) return empty('llmsup runs no server.', h('p', {}, 'Add one to ', h('code', {}, 'servers:'), ' in llmsup.yaml and reload, or start with a model:'), copyable('llmsup start --model MODEL.gguf', context.redraw));
	const now = context.store.now();
	const rate = (server, f) => (server.state === 'ready' || server.state === 'degraded' ? f(server) : none());
	return table({
		caption: 'Servers', key: (r) => r.name, rows: s.servers, className: 'servers',
		rowClass: (r) => words(r.state === 'failed' && 'bad-row'),
		columns: [
			{id: 'name', head: 'Server', cell: (r) => [h('b', {}, r.name), r.pinned ? h('span', {class: 'tag'}, 'pinned') : null]},
			{id: 'state', head: 'State', cell: (r) => badge(r.state, [r.state, r.load_progress ? ' ' + percent(r.load_progress, 0) : ''].join(''))},
			{id: 'since', head: 'Since', right: true, cell: (r) => since(r.since, now)},
			{id: 'why', head: 'Why', wide: true, cell: (r) => why(r, now)},
			{id: 'slots', head: 'Slots', right: true, cell: (r) => (r.slots > 0 ? `${count(r.busy)}/${count(r.slots)}` : none())},
			{id: 'queue', head: 'Queue', right: true, cell: (r) => count(r.queued)},
			{id: 'rate', head: 'Tokens/s', right: true, cell: (r) => rate(r, () => (r.tokens_per_second === null || r.tokens_per_second === undefined ? value(unknown) : number(r.tokens_per_second, r.tokens_per_second < 10 ? 1 : 0)))},
			{id: 'first', head: 'First token p50', right: true, cell: (r) => rate(r, () => value(seconds(r.first_token_p50_seconds)))},
			{id: 'actions', head: '', label: 'Commands', cell: (r) => actions(r, context.commands)},
		],
	});
}

// why is the reason of a state, with what is expected next.
function why(server, now) {
	const parts = [];
	if (server.reason) parts.push(reasonOf(server.reason, server.drain));
	const left = between(now, server.ready_expected ?? null);
	if (left !== null) parts.push(left > 0 ? `ready in about ${seconds(left)}` : 'takes longer than last time');
	if (server.waiting_for_model > 0) parts.push(`${plural(server.waiting_for_model, 'call')} ${server.waiting_for_model === 1 ? 'waits' : 'wait'} for it`);
	const exit = server.state === 'ready' ? null : server.last_exit;
	return [parts.join('; '), exit ? h('details', {class: 'inline'}, h('summary', {}, `last exit ${time(exit.at, 'second')}: ${exit.class || exit.signal || 'code ' + exit.code}`), h('pre', {tabindex: 0}, (exit.tail ?? []).join('\n') || 'It printed nothing.')) : null, parts.length === 0 && !exit ? none() : null];
}

function actions(server, commands) {
	const denied = commands.denied();
	const act = (text, f) => button(text, f, {kind: 'quiet', label: `${text} ${server.name}`, denied, key: text});
	if (server.drain || server.state === 'drained') return h('div', {class: 'buttons'}, act('Resume', () => commands.resume(server.name)));
	return h('div', {class: 'buttons'}, server.state === 'unloaded' ? act('Load', () => commands.load(server.name)) : act('Restart', () => commands.restart(server.name)), act('Drain', () => commands.drain(server.name)));
}

function upstreams(s, {store}) {
	if (!(s.upstreams?.length > 0)) return null;
	return [h('h2', {key: 'upstreams'}, 'Upstreams'), table({
		caption: 'Upstreams', key: (r) => r.name, rows: s.upstreams, className: 'upstreams',
		columns: [
			{id: 'name', head: 'Upstream', cell: (r) => h('b', {}, r.name)},
			{id: 'state', head: 'State', cell: (r) => (r.missing_key ? badge('not configured') : badge(r.healthy ? 'ok' : 'failing'))},
			{id: 'since', head: 'Since', right: true, cell: (r) => since(r.since, store.now())},
			{id: 'why', head: 'Why', wide: true, cell: (r) => (r.missing_key ? 'no call goes there without an API key: ' : '') + r.reason || none()},
		],
	})];
}
