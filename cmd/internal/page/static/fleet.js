// Fleet: all boxes, their models, GPUs and drains, and what all of them together did today. There is none without fleet: in llmsup.yaml.

import {h, words} from './dom.js';
import {between, count, list, number, percent, plural, seconds, time, unknown, usd, wholeSeconds} from './format.js';
import {empty, none, state as badge, table, value} from './parts.js';

export const title = 'Fleet';

export function create({store}) {
	return {
		draw({sections: s}) {
			const fleet = s.fleet;
			if (!fleet) return [h('h1', {}, 'Fleet'), empty('This box is in no fleet.', h('p', {}, 'With ', h('code', {}, 'fleet:'), ' in llmsup.yaml, boxes know of each other and answer each other\u2019s calls.'))];
			return [
				h('h1', {}, 'Fleet'),
				problem(fleet),
				foreign(fleet),
				today(fleet, s.viewer),
				h('section', {key: 'boxes', 'aria-label': 'Boxes'}, h('h2', {}, 'Boxes'), boxes(fleet, store.now()), refusals(fleet)),
				h('section', {key: 'models', 'aria-label': 'Models'}, h('h2', {}, 'Models'), models(fleet)),
			];
		},
	};
}

/** fleetLine is the fleet in a line, for Now. */
export function fleetLine(fleet) {
	const silent = fleet.absent.filter((b) => !b.left);
	const drained = fleet.boxes.filter((b) => b.drained);
	const keyless = fleet.boxes.filter((b) => b.no_keys);
	const notes = [];
	if (!fleet.joined) notes.push(fleet.problem);
	if (silent.length > 0) notes.push(`${list(silent.map((b) => b.name))} silent`);
	if (drained.length > 0) notes.push(`${list(drained.map((b) => b.name))} drained`);
	if (keyless.length > 0) notes.push(`${list(keyless.map((b) => b.name))} without keys`);
	const state = fleet.joined ? plural(fleet.boxes.length, 'box', 'boxes') : 'alone';
	return h('p', {key: 'fleet', class: 'fleet-line'}, h('a', {href: '/ui/fleet'}, 'Fleet'), ': ', badge(fleet.joined && silent.length === 0 ? 'ready' : 'degraded', state), notes.length > 0 ? `, ${notes.join(', ')}` : '');
}

function problem({box, joined, problem: why}) {
	if (!why) return null;
	return h('p', {key: 'problem', class: 'banner warn', role: 'status'}, badge('degraded', joined ? 'In the fleet' : 'Alone'), joined ? `: ${box} is in the fleet, but ${why}` : `: ${box} is not in the fleet, and continues with its own models. ${why}`);
}

function foreign({foreign: names}) {
	if (!names?.length) return null;
	return h('p', {key: 'foreign', class: 'banner warn', role: 'status'}, badge('degraded', 'Another key'), `: ${list(names)}. Every box of a fleet needs the same key in its key_file.`);
}

const fact = (name, text, note) => h('div', {key: name, class: 'fact'}, h('dt', {}, name), h('dd', {class: 'big'}, text), h('dd', {class: 'muted small'}, note));

// today are the sums of all boxes. They are there for operators only.
function today({today: t}, viewer) {
	if (!viewer?.operator) return null;
	if (!t) return h('p', {key: 'today', class: 'muted'}, 'Asking all boxes for the sums of today ...');
	return h('section', {key: 'today', class: 'answers', 'aria-label': 'Today, all boxes'},
		h('dl', {},
			fact('Calls today', value(count(t.calls)), `at ${plural(t.answered, 'box', 'boxes')}, since ${time(t.since, 'clock')}`),
			fact('Local answers', value(percent(t.local_calls / t.calls)), `${count(t.local_calls)} local · ${count(t.cloud_calls)} to the cloud`),
			fact('Saved', value(usd(t.saved_usd)), t.unknown_saved > 0 ? `without ${plural(t.unknown_saved, 'call')} of unknown price` : 'by local answers, at list prices'),
			fact('Paid', value(usd(t.paid_usd)), t.calls_unknown_cost > 0 ? `without ${plural(t.calls_unknown_cost, 'call')} of unknown cost` : 'by all boxes')),
		t.missing.length > 0 && h('ul', {class: 'missing'}, t.missing.map((m) => h('li', {key: m.box}, badge('degraded', `The sums lack ${m.box}`), `: it ${m.why}`))));
}

function boxes(fleet, now) {
	const rows = [...fleet.boxes, ...fleet.absent.map((b) => ({...b, absent: true}))];
	return table({
		caption: 'Boxes', key: (b) => b.name, rows, className: 'boxes', rowClass: (b) => words(b.absent && !b.left && 'bad-row'),
		columns: [
			{id: 'name', head: 'Box', cell: (b) => [h('b', {}, b.name), b.this ? h('span', {class: 'tag'}, 'this box') : null]},
			{id: 'state', head: 'State', cell: (b) => boxState(b, fleet, now)},
			{id: 'slots', head: 'Free slots', right: true, cell: (b) => (b.absent ? none() : ofSlots(b.models))},
			{id: 'queue', head: 'Queue', right: true, cell: (b) => (b.absent ? none() : count(b.models.reduce((sum, m) => sum + m.queued, 0)))},
			{id: 'gpus', head: 'GPUs', cell: (b) => (b.absent ? none() : gpus(b.gpus))},
			{id: 'version', head: 'Version', cell: (b) => b.version || none()},
			{id: 'config', head: 'Config', right: true, cell: (b) => (b.config_version ? count(b.config_version) : none())},
			{id: 'address', head: 'Address', wide: true, cell: (b) => b.address || none()},
		],
	});
}

// refusals are what does not work with the fleet's configuration.
function refusals({boxes: all}) {
	return all.filter((b) => b.config_problem).map((b) => h('p', {key: 'refusal-' + b.name}, badge('degraded', b.name), `: ${b.config_problem}`));
}

function boxState(b, fleet, now) {
	if (b.absent) return b.left ? badge('stopped', `left ${wholeSeconds(between(b.last_seen, now))} ago`) : badge('lost', `silent for ${wholeSeconds(between(b.last_seen, now))}`);
	if (b.this && !fleet.joined) return badge('degraded', 'alone');
	if (b.drained) return badge('drained');
	return b.no_keys ? badge('degraded', 'no keys yet') : badge('ready', 'in use');
}

// gpus lists the GPUs by their health.
function gpus(all) {
	if (all.length === 0) return none();
	const healths = [...new Set(all.map((g) => g.health))];
	return healths.map((health, i) => {
		const of = all.filter((g) => g.health === health);
		return h('span', {key: health}, i > 0 ? ', ' : '', badge(health, healths.length === 1 ? `${count(of.length)} ${health}` : `${list(of.map((g) => String(g.index)))} ${health}`));
	});
}

// ofSlots are the free slots of models; a model whose slots are not known is left out.
function ofSlots(all) {
	const known = all.filter((m) => m.slots !== null && m.free !== null);
	if (known.length === 0) return none();
	const sum = (f) => known.reduce((n, m) => n + f(m), 0);
	return `${count(sum((m) => m.free))} of ${count(sum((m) => m.slots))}`;
}

// models has a row for each model of each box, so that the boxes that have a model stand together.
function models(fleet) {
	const rows = fleet.boxes.flatMap((b) => b.models.map((m) => ({...m, box: b.name}))).toSorted((a, b) => (a.name === b.name ? (a.box < b.box ? -1 : 1) : a.name < b.name ? -1 : 1));
	if (rows.length === 0) return h('p', {class: 'muted'}, 'No box has a model.');
	const figure = (v, show) => (v === null || v === undefined ? none() : show(v));
	return table({
		caption: 'Models of all boxes', key: (m) => `${m.box}/${m.name}`, rows, className: 'fleet-models', rowClass: (m) => words(m.state === 'failed' && 'bad-row'),
		columns: [
			{id: 'name', head: 'Model', cell: (m) => h('b', {}, m.name)},
			{id: 'box', head: 'Box', cell: (m) => m.box},
			{id: 'state', head: 'State', cell: (m) => badge(m.state || unknown)},
			{id: 'slots', head: 'Free slots', right: true, cell: (m) => ofSlots([m])},
			{id: 'queue', head: 'Queue', right: true, cell: (m) => count(m.queued)},
			{id: 'rate', head: 'Tokens/s', right: true, cell: (m) => figure(m.tokens_per_second, (v) => number(v, v < 10 ? 1 : 0))},
			{id: 'first', head: 'First token p50', right: true, cell: (m) => figure(m.first_token_p50_seconds, seconds)},
			{id: 'load', head: 'Load time', right: true, cell: (m) => figure(m.load_seconds, seconds)},
		],
	});
}
