// Models: those of llmsup.yaml and on disk, what they need of the GPU, and how to load, unload and pin them.

import {createDisk} from './disk.js';
import {h} from './dom.js';
import {fit} from './fit.js';
import {bytes, count, percent, plural, seconds, unknown} from './format.js';
import {createHub} from './hub.js';
import {button, copyable, empty, none, reasonOf, since, state as badge, table, value} from './parts.js';

export const title = 'Models';

export function create(context) {
	const {store, redraw, commands} = context;
	const disk = createDisk(context);
	const hub = createHub(context);
	let sort = null;
	let read = false;
	// onDisk reads the files once the viewer is known to be an operator.
	const onDisk = (s) => {
		if (!s.viewer?.operator) return null;
		if (!read) {
			read = true;
			disk.load();
		}
		return [disk.draw(s), hub.draw()];
	};
	return {
		leave: disk.leave,
		draw({sections: s}) {
			const drains = new Map((s.servers ?? []).map((server) => [server.name, server.drain]));
			const now = store.now();
			const head = [h('h1', {}, 'Models'), h('div', {class: 'row bar-row'}, h('span', {class: 'muted'}, fitText(s)), h('span', {class: 'grow'}), button('Reload llmsup.yaml', () => commands.reload(), {denied: commands.denied()}))];
			if (!(s.models?.length > 0)) return [...head, empty('llmsup has no model.', h('p', {}, 'Start it with one:'), copyable('llmsup start --model MODEL.gguf', redraw)), onDisk(s)];
			return [...head, table({
				caption: 'Models', key: (m) => m.name, rows: s.models, className: 'models', sort, onSort: (to) => { sort = to; redraw(); },
				columns: [
					{id: 'name', head: 'Model', sort: (m) => m.name, cell: (m) => [h('b', {}, m.name), h('span', {class: 'tag'}, m.pinned ? 'pinned' : m.load === 'on_demand' ? 'on demand' : m.load), h('div', {class: 'muted small cut', title: m.model}, (m.model || '').split('/').pop() || unknown)]},
					{id: 'state', head: 'State', wide: true, sort: (m) => m.state, cell: (m) => [badge(m.state, m.state + (m.load_progress ? ' ' + percent(m.load_progress, 0) : '')), h('span', {class: 'muted small'}, ' for ', since(m.since, now)), m.reason ? h('div', {class: 'muted small'}, reasonOf(m.reason, drains.get(m.name))) : null]},
					{id: 'size', head: 'Size', right: true, sort: (m) => m.size_bytes, cell: (m) => value(bytes(m.size_bytes))},
					{id: 'need', head: 'VRAM need', right: true, sort: (m) => m.vram_need_bytes, cell: (m) => need(m)},
					{id: 'fit', head: 'Fits', cell: (m) => fits(m, s.gpus)},
					{id: 'seconds', head: 'Load time', right: true, sort: (m) => m.load_seconds, cell: (m) => value(seconds(m.load_seconds))},
					{id: 'used', head: 'Last used', right: true, sort: (m) => (m.last_used ? -Date.parse(m.last_used) : null), cell: (m) => (m.last_used ? since(m.last_used, now) : h('span', {class: 'muted'}, 'not since start'))},
					{id: 'calls', head: 'Calls', right: true, sort: (m) => m.calls, cell: (m) => h('span', {title: unloads(m)}, count(m.calls))},
					{id: 'commands', head: '', label: 'Commands', cell: (m) => actions(m, commands)},
				],
			}), h('p', {class: 'muted small'}, 'VRAM need is what loading is planned with: estimated from the file or set by vram, and then measured. Calls count since llmsup started. Only models with load: on_demand in llmsup.yaml are loaded and unloaded; Drain in Now takes others out of use.'), onDisk(s)];
		},
	};
}

function fitText(s) {
	const free = s.gpus?.map((g) => g.memory_free_bytes);
	if (!(free?.length > 0) || free.some((f) => f === null)) return '';
	return `Free VRAM: ${s.gpus.map((g) => (s.gpus.length > 1 ? `GPU ${g.index} ` : '') + bytes(g.memory_free_bytes)).join(', ')}`;
}

function need(m) {
	if (m.vram_need_bytes === null) return value(unknown);
	return h('span', {title: m.vram_measured_bytes === null ? 'estimated: it was not loaded yet' : `measured: ${bytes(m.vram_measured_bytes)}`}, bytes(m.vram_need_bytes), m.vram_measured_bytes === null ? h('span', {class: 'muted small'}, ' estimated') : null);
}

function fits(m, gpus) {
	if (m.state === 'ready' || m.state === 'degraded') return badge('ready', m.gpus?.length > 0 ? `loaded on GPU ${m.gpus.join('+')}` : 'loaded');
	if (m.state === 'loading' && m.gpus?.length > 0) return badge('loading', `loading on GPU ${m.gpus.join('+')}`);
	const found = fit(m.placements, gpus);
	return found ? badge(found.state, found.text) : value(unknown);
}

const unloads = (m) => [plural(m.loads, 'load'), ...Object.entries(m.unloads ?? {}).map(([why, n]) => `${count(n)} unloaded: ${why}`)].join(', ');

function actions(m, commands) {
	if (m.load !== 'on_demand') return none(); // the daemon refuses them for a model that is always loaded
	const denied = commands.denied();
	const act = (text, f) => button(text, f, {kind: 'quiet', label: `${text} ${m.name}`, denied, key: text});
	const loaded = m.state !== 'unloaded' && m.state !== 'unloading' && m.state !== 'failed';
	return h('div', {class: 'buttons'}, loaded ? act('Unload', () => commands.unload(m.name)) : act('Load', () => commands.load(m.name)), act(m.pinned ? 'Unpin' : 'Pin', () => commands.pin(m.name, !m.pinned)));
}
