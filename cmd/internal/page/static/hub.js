// From a hub: which quantisations of a repository fit the GPUs, before any download.

import * as api from './api.js';
import {h} from './dom.js';
import {bytes, count, unknown} from './format.js';
import {button, none, state as badge, table, value} from './parts.js';

export function createHub({redraw, commands}) {
	let ref = '';
	let context = 8192;
	let answer = null;
	let problem = '';
	let asked = 0; // the number of the last request: an earlier one's answer is not shown
	let loading = false;

	async function load() {
		const mine = ++asked;
		loading = true;
		problem = '';
		redraw();
		try {
			const got = await api.command('fit', {ref: ref.trim(), ctx_size: context});
			if (mine === asked) answer = got;
		} catch (error) {
			if (mine === asked) problem = error.message;
		}
		if (mine === asked) loading = false;
		redraw();
	}

	return {
		draw() {
			const submit = (event) => {
				event.preventDefault();
				if (commands.denied()) problem = commands.denied();
				else if (!loading) load();
				redraw();
			};
			return h('section', {key: 'hub', 'aria-label': 'From a hub'},
				h('h2', {}, 'From a hub'),
				h('form', {class: 'row bar-row', onsubmit: submit},
					h('label', {class: 'field grow'}, h('span', {}, 'Repository or URL'), h('input', {placeholder: 'hf:ORG/REPO', required: true, spellcheck: 'false', autocomplete: 'off', oninput: (event) => { ref = event.target.value; }, created: (el) => { el.value = ref; }})),
					h('label', {class: 'field'}, h('span', {}, 'Context, tokens'), h('input', {type: 'number', min: 1, max: 100000000, required: true, oninput: (event) => { context = Number(event.target.value); }, created: (el) => { el.value = context; }})),
					h('button', {type: 'submit', class: 'primary', 'aria-disabled': commands.denied() ? 'true' : null, title: commands.denied() || null, props: {disabled: loading}}, loading ? 'Reading ...' : 'What fits?')),
				problem && h('p', {class: 'problem', role: 'alert'}, problem),
				answer && list(answer, commands));
		},
	};
}

function list(answer, commands) {
	const doubts = [...new Set(answer.variants.map((v) => v.uncertain).filter(Boolean))];
	return h('div', {},
		h('p', {}, h('b', {}, answer.name || answer.model), [answer.architecture, answer.trained_context && `trained for ${count(answer.trained_context)} tokens`].filter(Boolean).map((text) => ', ' + text).join('')),
		table({
			caption: `Quantisations of ${answer.model}`, key: (v) => v.files.join(), rows: answer.variants, className: 'models hub',
			columns: [
				{id: 'name', head: 'Quantisation', wide: true, cell: (v) => [h('b', {}, v.name), v.name === answer.choice && h('span', {class: 'tag'}, 'llmsup pull takes it'), v.problem && h('div', {class: 'problem small'}, v.problem)]},
				{id: 'size', head: 'Size', right: true, cell: (v) => value(bytes(v.size_bytes))},
				{id: 'need', head: 'VRAM need', right: true, cell: (v) => value(bytes(v.vram_need_bytes))},
				{id: 'fit', head: 'Fits', wide: true, cell: fits},
				{id: 'context', head: 'Largest context', right: true, cell: (v) => (v.largest_context === 0 ? none() : value(count(v.largest_context)))},
				{id: 'download', head: '', label: 'Download', cell: (v) => download(refOf(answer.model, v), commands)},
			],
		}),
		doubts.map((text) => h('p', {class: 'muted small'}, `VRAM need: ${text}.`)),
		h('p', {class: 'muted small'}, `VRAM need is the estimate for a context of ${count(answer.ctx_size)} tokens, all layers on the GPU. Fits: once the models that llmsup runs have left. `, answer.choice && `llmsup pull takes ${answer.choice}: ${answer.choice_reason}. `, answer.gpu_problem && `No GPU: ${answer.gpu_problem}.`));
}

function fits(v) {
	const place = (v.places ?? []).filter((p) => p.fits === v.fits).reduce((a, b) => (a && a.missing_bytes <= b.missing_bytes ? a : b), null);
	if (!place) return value(unknown);
	const where = 'GPU ' + place.gpus.join('+');
	if (v.fits === 'now') return badge('ready', `fits ${where}`);
	if (v.fits === 'later') return badge('starting', `fits ${where} once other models have left`);
	return [badge('failed', `needs ${bytes(place.missing_bytes)} more than ${where} can give`), v.advice && h('div', {class: 'muted small'}, `fits with ${v.advice}`)];
}

function download(ref, commands) {
	const denied = commands.denied();
	if (commands.pulling(ref)) return button('Cancel', () => commands.cancelPull(ref), {kind: 'quiet', label: `Cancel the download of ${ref}`, denied, key: 'cancel'});
	return button('Download', () => commands.pull(ref), {kind: 'quiet', label: `Download ${ref}`, denied, key: 'download'});
}

/** refOf names one quantisation of a repository: hf:ORG/REPO[@REVISION] becomes hf:ORG/REPO:QUANT[@REVISION]. */
export function refOf(model, v) {
	const [, repo, revision] = /^(hf:[^/@:]+\/[^/@:]+)(@.+)?$/.exec(model) ?? [];
	if (!repo) return model; // it names a file or a quantisation already
	return repo + (v.name.endsWith('.gguf') ? '/' + v.files[0] : ':' + v.name) + (revision ?? '');
}
