// Charts as descriptions for dom.js: a line over time, stacked bars per day, and one horizontal bar. The y axis starts at 0 and has
// at most four ticks. Hover or the arrow keys show the exact value; a table with the same data follows for screen readers.

import {h} from './dom.js';
import {unknown} from './format.js';

/** ticks returns three or four round numbers from 0 to at least max. */
export function ticks(max) {
	if (!(max > 0)) return [0, 1];
	for (let scale = 10 ** Math.floor(Math.log10(max) - 1); ; scale *= 10) {
		for (const step of [1, 2, 2.5, 5]) {
			const top = Math.ceil(max / (step * scale) - 1e-9);
			if (top <= 3) return Array.from({length: top + 1}, (_, i) => Number((i * step * scale).toPrecision(12)));
		}
	}
}

/** linePath returns an SVG path through the values in a box of 100 x 100; null interrupts the line. */
export function linePath(values, top) {
	let path = '';
	let pen = 'M';
	values.forEach((value, i) => {
		if (value === null || value === undefined) {
			pen = 'M';
			return;
		}
		const x = values.length < 2 ? 50 : (i / (values.length - 1)) * 100;
		const y = 100 - Math.min(1, Math.max(0, value / top)) * 100;
		path += `${pen}${round(x)} ${round(y)}`;
		// A single value between two gaps is a dot: a line of no length with round ends.
		if (pen === 'M' && (values[i + 1] === null || values[i + 1] === undefined)) path += `L${round(x)} ${round(y)}`;
		pen = 'L';
	});
	return path;
}

/** dots returns an SVG path like linePath's of those values alone that have no neighbour, so that they can be drawn larger. */
export function dots(values, top) {
	const missing = (v) => v === null || v === undefined;
	return linePath(values.map((v, i) => (missing(values[i - 1]) && missing(values[i + 1]) ? v : null)), top);
}

const round = (v) => Number(v.toFixed(2));

/** shares returns where each part of a whole begins and how long it is, in percent. Parts beyond the whole are cut. */
export function shares(parts, whole) {
	let x = 0;
	return parts.map((part) => {
		const width = whole > 0 ? Math.min(100 - x, Math.max(0, (part / whole) * 100)) : 0;
		const share = {x: round(x), width: round(width)};
		x += width;
		return share;
	});
}

const hovers = new Map(); // chart -> index of the value that is shown

/**
 * lineChart shows values over time. spec: id, title, values (null = unknown), times (milliseconds), max (of the axis; null = by the
 * values), show (a value as
 * text), now (the present value as text), tick (a tick as text), at (a time as text), redraw.
 */
export function lineChart(spec) {
	const known = spec.values.filter((v) => v !== null && v !== undefined);
	const axis = ticks(spec.max ?? Math.max(0, ...known));
	const top = spec.max ?? axis.at(-1);
	const last = spec.values.length - 1;
	const index = Math.min(hovers.get(spec.id) ?? last, last);
	const hovering = hovers.has(spec.id);
	const value = !hovering && spec.now ? spec.now : last < 0 ? unknown : spec.show(spec.values[index] ?? null);
	const x = last < 1 ? 50 : (index / last) * 100;
	return h('figure', {class: 'chart', key: spec.id},
		h('figcaption', {}, h('span', {class: 'label'}, spec.title), h('span', {class: 'value'}, value),
			h('span', {class: 'muted'}, hovering ? spec.at(spec.times[index]) : '')),
		plot(spec, index, last, hovering ? spec.at(spec.times[index]) + ': ' + value : value,
			yAxis(spec.max ? [0, spec.max / 2, spec.max] : axis, top, spec.tick),
			h('svg', {viewBox: '0 0 100 100', preserveAspectRatio: 'none', 'aria-hidden': 'true'},
				h('path', {class: 'line', d: linePath(spec.values, top)}),
				h('path', {class: 'line dots', d: dots(spec.values, top)}),
				hovering && h('line', {class: 'cursor', x1: x, x2: x, y1: 0, y2: 100}))),
		h('div', {class: 'x-axis', 'aria-hidden': 'true'}, last === 0 ? h('span', {class: 'column'}, spec.at(spec.times[0])) : [h('span', {}, last < 0 ? '' : spec.at(spec.times[0])), h('span', {}, last < 0 ? '' : spec.at(spec.times[last]))]),
		data(spec, ['Time', spec.title], spec.values.map((v, i) => [spec.at(spec.times[i]), spec.show(v ?? null)])),
	);
}

/**
 * stackedBars shows a column per day. spec: id, title, series (names), bars ([{label, values}], null = unknown), show, tick, redraw.
 */
export function stackedBars(spec) {
	const axis = ticks(Math.max(0, ...spec.bars.map((b) => b.values.reduce((sum, v) => sum + (v ?? 0), 0))));
	const top = axis.at(-1);
	const last = spec.bars.length - 1;
	const hovering = hovers.has(spec.id);
	const index = Math.min(hovers.get(spec.id) ?? last, last);
	const text = last < 0 ? '' : spec.bars[index].label + ': ' + spec.series.map((name, i) => `${name} ${spec.show(spec.bars[index].values[i])}`).join(', ');
	const step = 100 / Math.max(1, spec.bars.length);
	const rects = spec.bars.flatMap((bar, i) => {
		let y = 100;
		return bar.values.map((v, s) => {
			const height = ((v ?? 0) / top) * 100;
			y -= height;
			return h('rect', {class: 'series-' + s, x: round(i * step + step * 0.12), y: round(y), width: round(step * 0.76), height: round(height)});
		});
	});
	return h('figure', {class: 'chart tall', key: spec.id},
		h('figcaption', {}, h('span', {class: 'label'}, spec.title), spec.series.map((name, i) => h('span', {class: 'legend series-' + i}, name)),
			h('span', {class: 'muted'}, hovering ? text : '')),
		plot(spec, index, last, text, yAxis(axis, top, spec.tick),
			h('svg', {viewBox: '0 0 100 100', preserveAspectRatio: 'none', 'aria-hidden': 'true'},
				hovering && h('rect', {class: 'cursor-column', x: round(index * step), y: 0, width: round(step), height: 100}), rects)),
		h('div', {class: 'x-axis', 'aria-hidden': 'true'}, spec.bars.length <= 10 ? spec.bars.map((b) => h('span', {class: 'column'}, b.label)) : [h('span', {}, spec.bars[0].label), h('span', {}, spec.bars[last].label)]),
		data(spec, ['Day', ...spec.series], spec.bars.map((b) => [b.label, ...b.values.map((v) => spec.show(v))])),
	);
}

// plot is the area of a chart. It is a slider over the values, so that the arrow keys reach each of them.
function plot(spec, index, last, text, axis, svg) {
	const show = (i) => {
		if (i === null) hovers.delete(spec.id);
		else hovers.set(spec.id, Math.min(last, Math.max(0, i)));
		spec.redraw();
	};
	const steps = {ArrowLeft: -1, ArrowRight: 1, ArrowDown: -1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -Infinity, End: Infinity};
	return h('div', {class: 'plot'}, axis, h('div', {
		class: 'area', role: 'slider', tabindex: last < 0 ? null : 0, 'aria-label': spec.title, 'aria-readonly': 'true',
		'aria-valuemin': 0, 'aria-valuemax': Math.max(0, last), 'aria-valuenow': Math.max(0, index), 'aria-valuetext': text || unknown,
		onpointermove: (event) => {
			const box = event.currentTarget.getBoundingClientRect();
			const share = (event.clientX - box.left) / box.width;
			show(spec.bars ? Math.floor(share * spec.bars.length) : Math.round(share * last));
		},
		onpointerleave: () => show(null),
		onblur: () => show(null),
		onkeydown: (event) => {
			if (!(event.key in steps)) return;
			event.preventDefault();
			show((hovers.get(spec.id) ?? last) + steps[event.key]); // keys may repeat before the next rendering
		},
	}, axis.positions.map((y) => h('span', {class: 'grid', css: {bottom: y + '%'}})), svg));
}

function yAxis(axis, top, show) {
	const positions = axis.map((v) => round((v / top) * 100)).filter((p) => p <= 100);
	const node = h('div', {class: 'y-axis', 'aria-hidden': 'true'}, positions.map((p, i) => h('span', {css: {bottom: p + '%'}}, show(axis[i]))));
	node.positions = positions;
	return node;
}

const open = new Set(); // the charts whose table is open: a closed one has no rows, which costs nothing

function data({id, redraw}, head, rows) {
	const toggled = (event) => {
		if (event.currentTarget.open === open.has(id)) return;
		if (event.currentTarget.open) open.add(id);
		else open.delete(id);
		redraw();
	};
	return h('details', {class: 'data', ontoggle: toggled},
		h('summary', {}, 'Table'),
		h('div', {class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Data: ' + head.at(-1)}, h('table', {}, h('thead', {}, h('tr', {}, head.map((name) => h('th', {scope: 'col'}, name)))),
			h('tbody', {}, open.has(id) ? rows.map((row) => h('tr', {}, row.map((cell) => h('td', {}, cell)))) : null))));
}

/** bar shows the parts of a whole: [{name, value, className}]. text says the same in words. */
export function bar(parts, whole, text) {
	const places = shares(parts.map((p) => p.value ?? 0), whole);
	return h('svg', {class: 'bar', role: 'img', 'aria-label': text, width: '100%', height: 12},
		h('rect', {class: 'bar-free', x: 0, y: 0, width: '100%', height: '100%'}),
		parts.map((part, i) => h('rect', {class: part.className, x: places[i].x + '%', y: 0, width: places[i].width + '%', height: '100%'})));
}
