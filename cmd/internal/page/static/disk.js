// Models on disk: the GGUF files that no server uses. They are read when the view is opened, or on request.

import * as api from './api.js';
import {h} from './dom.js';
import {fit} from './fit.js';
import {bytes, count, percent, plural, scaled, unknown} from './format.js';
import {button, copyable, empty, none, state as badge, table, value} from './parts.js';

export function createDisk({redraw}) {
	let answer = null;
	let problem = '';
	let loading = null;
	let sort = null;

	async function load() {
		loading?.abort();
		const mine = loading = new AbortController();
		problem = '';
		redraw();
		try {
			answer = await api.files(mine.signal);
		} catch (error) {
			if (error.name === 'AbortError') return;
			problem = error.message;
		}
		if (loading === mine) loading = null;
		redraw();
	}

	return {
		load,
		leave: () => loading?.abort(),
		draw(s) {
			const files = answer?.files ?? [];
			return h('section', {key: 'disk', 'aria-label': 'On disk, not in llmsup.yaml'},
				h('div', {class: 'row bar-row'}, h('h2', {}, 'On disk, not in llmsup.yaml'), h('span', {class: 'grow'}), button(loading ? 'Reading ...' : 'Read again', load, {disabled: loading !== null})),
				problem && h('p', {class: 'problem', role: 'alert'}, problem),
				answer?.incomplete && h('p', {class: 'muted'}, `The list is incomplete: ${answer.incomplete}.`),
				answer && files.length === 0 && empty('There is no other GGUF file.', h('p', {}, 'Put one into ', h('code', {}, answer.folder), ', and add it to llmsup.yaml:'), copyable(yaml('NAME', answer.folder + '/NAME.gguf'), redraw)),
				files.length > 0 && list(files, s, sort, (to) => { sort = to; redraw(); }, redraw),
				files.length > 0 && h('p', {class: 'muted small'}, `VRAM need is the estimate for a context of ${count(answer.ctx_size)} tokens, all layers on the GPU. Further files belong into ${answer.folder}.`));
		},
	};
}

function list(files, s, sort, onSort, redraw) {
	return table({
		caption: 'Models on disk', key: (f) => f.path, rows: files, className: 'models files', sort, onSort,
		columns: [
			{id: 'name', head: 'File', wide: true, sort: (f) => f.name, cell: (f) => [h('b', {}, f.name), f.kind === 'projector' && h('span', {class: 'tag'}, 'projector (mmproj)'), f.parts > 1 && h('span', {class: 'tag'}, plural(f.parts, 'part')), h('div', {class: 'muted small'}, f.path), f.kind === 'model' && addition(f, redraw)]},
			{id: 'size', head: 'Size', right: true, sort: (f) => f.size_bytes, cell: (f) => value(bytes(f.size_bytes))},
			{id: 'parameters', head: 'Parameters', right: true, sort: (f) => f.parameters, cell: (f) => (f.kind === 'model' ? value(scaled(f.parameters)) : none())},
			{id: 'quantization', head: 'Quantisation', sort: (f) => f.quantization || null, cell: (f) => (f.kind === 'model' ? value(f.quantization || unknown) : none())},
			{id: 'context', head: 'Context', right: true, sort: (f) => f.trained_context, cell: (f) => (f.kind === 'model' ? value(count(f.trained_context)) : none())},
			{id: 'need', head: 'VRAM need', right: true, sort: (f) => f.vram_need_bytes, cell: (f) => (f.kind === 'model' ? h('span', {title: f.uncertain ? `may be far off: ${f.uncertain}` : null}, value(bytes(f.vram_need_bytes)), f.uncertain && h('span', {class: 'muted small'}, ' uncertain')) : none())},
			{id: 'fit', head: 'Fits', wide: true, cell: (f) => fits(f, s.gpus)},
		],
	});
}

function fits(f, gpus) {
	if (f.kind === 'projector') return h('span', {class: 'muted small'}, 'for the args of a model: --mmproj FILE');
	if (f.kind === 'unfinished') return [badge('loading', f.total_bytes ? `downloaded ${percent(f.size_bytes / f.total_bytes, 0)} of ${bytes(f.total_bytes)}` : 'not downloaded whole'), h('div', {class: 'muted small'}, 'llmsup pull or a server with it continues; llmsup models rm removes it')];
	if (f.kind === 'unusable') return [badge('failed', 'unusable'), h('div', {class: 'muted small'}, f.problem)];
	const found = fit(f.placements, gpus);
	if (!found) return value(unknown);
	return [badge(found.state, found.text), f.largest_context > 0 && h('div', {class: 'muted small'}, `with a context of up to ${count(f.largest_context)} tokens`)];
}

const addition = (f, redraw) => h('details', {class: 'inline'}, h('summary', {}, 'Add to llmsup.yaml'), copyable(yaml(f.name, f.path), redraw));

// yaml is a server of llmsup.yaml. JSON strings are YAML, whatever a file's name has.
const yaml = (name, path) => `servers:\n  ${name.toLowerCase().replace(/[^a-z0-9._-]+/g, '-').replace(/^[^a-z0-9]+|[^a-z0-9]+$/g, '').slice(0, 60) || 'model'}:\n    model: ${JSON.stringify(path)}\n    load: on_demand`;
