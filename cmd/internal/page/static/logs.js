// Logs: llmsup's own and each engine's lines, live, with pause, search and levels.

import {h, words} from './dom.js';
import {count, time} from './format.js';
import {button, empty, select} from './parts.js';

export const title = 'Logs';

const ranks = {trace: 0, debug: 0, info: 1, warn: 2, error: 3, fatal: 3, panic: 3};
const most = 1000; // lines that are shown

export function create(context) {
	const {store, redraw} = context;
	let paused = null; // the lines at the time of the pause
	let search = context.params.get('q') ?? '';
	let box = null;
	let follow = true; // the end is shown

	function set(name, text) {
		const params = new URLSearchParams(context.params);
		if (text) params.set(name, text);
		else params.delete(name);
		context.go('/ui/logs' + (params.size > 0 ? '?' + params : ''), {replace: true});
	}

	let opened = false;
	return {
		signedIn() {
			opened = false;
		},
		leave() {
			context.open();
			store.clearLines();
		},
		draw({sections: s, lines}) {
			if (s.viewer && !s.viewer.operator) return [h('h1', {}, 'Logs'), empty('Logs are for operators.', h('p', {}, 'They may name other keys and models. Sign in with a key that has ', h('code', {}, 'operator: true'), ' in llmsup.yaml.'))];
			if (!opened) {
				opened = true;
				context.open({logs: true});
			}
			const source = context.params.get('source') ?? '';
			const level = context.params.get('level') ?? '';
			const all = paused ?? lines;
			const words_ = search.toLowerCase();
			const shown = all.filter((l) => (source === '' || l.server === (source === 'llmsup' ? '' : source)) && (ranks[l.level] ?? 1) >= (ranks[level] ?? 0) && (words_ === '' || l.text.toLowerCase().includes(words_))).slice(-most);
			const newer = paused ? lines.filter((l) => !paused.includes(l)).length : 0;
			if (follow && box && !paused) requestAnimationFrame(() => { box.scrollTop = box.scrollHeight; });
			return [
				h('h1', {}, 'Logs'),
				h('div', {key: 'filters', class: 'filters', role: 'search', 'aria-label': 'Filters'},
					select('Source', source, [['', 'all'], 'llmsup', ...(s.servers ?? []).map((one) => one.name)], (v) => set('source', v)),
					select('Level', level, [['', 'all'], ['info', 'info and above'], ['warn', 'warnings and errors'], ['error', 'errors']], (v) => set('level', v)),
					h('label', {class: 'field'}, h('span', {}, 'Search'), h('input', {type: 'search', spellcheck: 'false', oninput: (event) => { search = event.target.value; redraw(); }, created: (el) => { el.value = search; }})),
					button(paused ? 'Resume' : 'Pause', () => { paused = paused ? null : [...lines]; redraw(); }),
					h('span', {class: 'muted', 'aria-live': 'polite'}, paused ? `paused; ${count(newer)} newer` : '')),
				all.length === 0 ? empty('No lines yet.', h('p', {class: 'muted'}, 'llmsup keeps its last 1,000 lines in memory. The terminal has the same: ', h('code', {}, 'llmsup logs -f'), '.'))
					: shown.length === 0 ? empty('No line matches.', h('p', {class: 'muted'}, 'Clear the search, or choose all sources and levels.'))
					: h('div', {
						key: 'lines', class: 'log', role: 'log', 'aria-live': 'off', 'aria-label': 'Lines', tabindex: 0, created: (el) => { box = el; },
						onscroll: (event) => { const e = event.currentTarget; follow = e.scrollHeight - e.scrollTop - e.clientHeight < 24; },
					}, shown.map((l) => h('div', {key: l.number, class: words('log-line', l.level)},
						l.lost > 0 && h('p', {class: 'muted'}, `${count(l.lost)} lines before this one are missing: the page was too slow.`),
						h('time', {datetime: l.at, title: time(l.at)}, time(l.at, 'second')), ' ', h('span', {class: 'source'}, l.server || 'llmsup'), ' ', (ranks[l.level] ?? 1) >= 2 && h('b', {class: 'state ' + (l.level === 'warn' ? 'warn' : 'bad')}, (l.level === 'warn' ? '▲ warning' : '▲ ' + l.level) + ' '), h('span', {class: 'text'}, l.text)))),
			];
		},
	};
}
