// What several views are made of: states, times, buttons, tables, empty states.

import {h, words} from './dom.js';
import {between, stateKind, stateShape, time, unknown, wholeSeconds} from './format.js';

/** state shows a state as a shape and a word in its colour. */
export const state = (name, text = name) => h('span', {class: 'state ' + stateKind(name)}, h('span', {class: 'shape', 'aria-hidden': 'true'}, stateShape(name)), ' ', text);

/** value shows a text, in grey if it is unknown. */
export const value = (text) => (String(text).startsWith(unknown) ? h('span', {class: 'muted'}, text) : text);

/** since shows how long ago a time was; the title has the time itself. */
export function since(at, now) {
	const s = between(at, now);
	if (s === null) return value(unknown);
	return h('time', {datetime: new Date(at).toISOString(), title: time(at)}, wholeSeconds(s));
}

/** moment shows a time in full. */
export const moment = (at, style = 'short') => (at ? h('time', {datetime: new Date(at).toISOString(), title: time(at)}, time(at, style)) : value(unknown));

/**
 * reasonOf is the reason of a server's state. That of a drain has times of the daemon's clock and zone; here they are the browser's.
 * drain is since when and until when, null = the server is not drained.
 */
export function reasonOf(reason, drain) {
	if (!drain || !reason.startsWith('taken out of use by an operator at ')) return reason;
	return `taken out of use by an operator at ${time(drain.since)}, until ${drain.until ? time(drain.until) : 'Resume'}`;
}

/** none is a cell to which nothing applies. */
export const none = () => h('span', {class: 'muted'}, '–');

/** button. options: kind ('', 'primary', 'danger', 'quiet'), label for screen readers, denied (a reason: it still answers a click). */
export function button(text, onclick, {kind = '', label = null, denied = '', disabled = false, key} = {}) {
	return h('button', {key, type: 'button', class: words(kind), onclick, 'aria-label': label, 'aria-disabled': denied ? 'true' : null, title: denied || null, props: {disabled}}, text);
}

const copied = new Map();

/** copyable shows a command with a button that copies it. */
export function copyable(text, redraw) {
	const copy = async () => {
		let result = 'Copied';
		try {
			await navigator.clipboard.writeText(text);
		} catch {
			result = 'Select the text to copy it'; // the browser allows it on https and localhost only
		}
		copied.set(text, result);
		redraw();
		setTimeout(() => {
			copied.delete(text);
			redraw();
		}, 3000);
	};
	return h('div', {class: 'copyable'}, h('pre', {tabindex: 0, role: 'region', 'aria-label': 'Command'}, h('code', {}, text)), button(copied.get(text) ?? 'Copy', copy));
}

/** empty says what is not there and what to do next. */
export const empty = (text, ...next) => h('div', {class: 'empty'}, h('p', {}, text), next);

/** curl is a first call of the endpoint that this page belongs to. */
export const curl = (model, keys) => `curl ${location.origin}/v1/chat/completions -H 'Content-Type: application/json'`
	+ `${keys ? " -H \"Authorization: Bearer $LLMSUP_KEY\"" : ''} \\\n  -d '{"model": "${model}", "max_tokens": 20, "messages": [{"role": "user", "content": "Count."}]}'`;

/**
 * table shows rows. spec: caption, columns ([{id, head, cell, right, sort, wide, label}]), rows, key (of a row), sort ({by, down}), onSort,
 * rowClass. On narrow screens each row becomes a list of labelled pairs.
 */
export function table(spec) {
	const {columns, sort} = spec;
	const head = columns.map((c) => {
		const sorted = sort && sort.by === c.id;
		const name = c.head || h('span', {class: 'hidden'}, c.label ?? '');
		return h('th', {scope: 'col', class: words(c.right && 'right', 'c-' + c.id), 'aria-sort': sorted ? (sort.down ? 'descending' : 'ascending') : null},
			c.sort && spec.onSort
				? h('button', {type: 'button', class: 'sort', onclick: () => spec.onSort({by: c.id, down: sorted ? !sort.down : Boolean(c.right)})}, name, h('span', {'aria-hidden': 'true'}, sorted ? (sort.down ? ' ▾' : ' ▴') : ''))
				: name);
	});
	const cells = columns.map(cellAttributes);
	const body = sorted(spec).map((row) => h('tr', {key: spec.key(row), class: spec.rowClass?.(row) || null}, columns.map((c, i) => h('td', cells[i], c.cell(row)))));
	// Names may be long: then the table scrolls, and not the page.
	return h('div', {class: 'scroll-x'}, h('table', {class: words('list', spec.className)}, h('caption', {class: 'hidden'}, spec.caption), h('thead', {}, h('tr', {}, head)), h('tbody', {}, body)));
}

// cellAttributes returns the same object for the same column, so that dom.js need not compare the attributes of thousands of cells.
const attributesOfCells = new Map();
function cellAttributes(c) {
	const id = [c.id, c.head, c.right, c.wide].join('|');
	if (!attributesOfCells.has(id)) attributesOfCells.set(id, {class: words(c.right && 'right', c.wide && 'wide', 'c-' + c.id), 'data-label': c.head || null});
	return attributesOfCells.get(id);
}

/** sorted returns the rows in the order of spec.sort; unknown values come last. */
export function sorted({columns, rows, sort}) {
	const by = sort && columns.find((c) => c.id === sort.by)?.sort;
	if (!by) return rows;
	const direction = sort.down ? -1 : 1;
	const missing = (v) => v === null || v === undefined;
	return rows.map((row, i) => ({row, i, v: by(row)})).sort((a, b) => {
		if (missing(a.v) || missing(b.v)) return missing(a.v) - missing(b.v) || a.i - b.i;
		return (typeof a.v === 'string' ? a.v.localeCompare(b.v) : a.v - b.v) * direction || a.i - b.i;
	}).map((r) => r.row);
}

/** select is a labelled choice. choices: values, or [value, text]. */
export function select(label, current, choices, onchange, more = {}) {
	return h('label', {key: 'select-' + label, class: 'field'}, h('span', {}, label),
		h('select', {onchange: (event) => onchange(event.target.value), ...more},
			choices.map((c) => {
				const [v, text] = Array.isArray(c) ? c : [c, c];
				return h('option', {key: v, value: v, props: {selected: v === current}}, text);
			})));
}
