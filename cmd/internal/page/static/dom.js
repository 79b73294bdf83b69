// Builds and updates the document. A view describes what it shows with h; render changes only what differs from what is there, so
// that focus, selection, scroll positions and the row under the pointer stay. Text is only ever set as text, never as HTML.

const svgNamespace = 'http://www.w3.org/2000/svg';
const svgTags = new Set(['svg', 'g', 'path', 'rect', 'line', 'polyline', 'circle', 'text']);

const described = Symbol('what a node was described as');
const listeners = Symbol('listeners of a node');

/**
 * h describes an element. Attributes: `on...` are listeners, `key` identifies the element among its siblings, `created` is called
 * once with the new element, `props` are properties of the element (checked, disabled, ...), `css` are CSS properties. null,
 * undefined and false leave out an attribute or a child.
 */
export function h(tag, attributes, ...children) {
	const a = attributes ?? none;
	return {tag, attributes: a, key: a.key, children};
}

const none = {};

// shown calls f for each child that there is, also those in lists.
function shown(children, f) {
	for (const child of children) {
		if (Array.isArray(child)) shown(child, f);
		else if (child !== null && child !== undefined && child !== false && child !== '') f(child);
	}
}

/** render makes the children of an element those that are described. */
export function render(parent, children) {
	let byKey = null;
	const unkeyed = [];
	for (let node = parent.firstChild; node; node = node.nextSibling) {
		const key = node[described]?.key;
		if (key === undefined) unkeyed.push(node);
		else (byKey ??= new Map()).set(key, node);
	}
	let next = 0;
	let at = parent.firstChild;
	shown(Array.isArray(children) ? children : [children], (child) => {
		let node = null;
		if (child.key !== undefined) {
			node = byKey?.get(child.key) ?? null;
			if (node && !fits(node, child)) node = null;
			if (node) byKey.delete(child.key);
		} else if (next < unkeyed.length && fits(unkeyed[next], child)) {
			node = unkeyed[next++];
		} else if (next < unkeyed.length) {
			// The old node at this place is of another kind: it goes, so that later siblings keep theirs.
			if (unkeyed[next] === at) at = at.nextSibling;
			unkeyed[next++].remove();
		}
		const made = node ?? create(child);
		if (made === at) at = at.nextSibling;
		else parent.insertBefore(made, at);
		update(made, child, node === null);
	});
	byKey?.forEach((node) => node.remove());
	for (; next < unkeyed.length; next++) unkeyed[next].remove();
}

function fits(node, child) {
	if (typeof child !== 'object') return node.nodeType === Node.TEXT_NODE;
	return node.nodeType === Node.ELEMENT_NODE && node[described]?.tag === child.tag;
}

function create(child) {
	if (typeof child !== 'object') return document.createTextNode(String(child));
	return svgTags.has(child.tag) ? document.createElementNS(svgNamespace, child.tag) : document.createElement(child.tag);
}

function update(node, child, isNew) {
	if (typeof child !== 'object') {
		const text = String(child);
		if (node.nodeValue !== text) node.nodeValue = text;
		return;
	}
	const before = node[described];
	if (before === child) return;
	node[described] = child;
	if (before?.attributes !== child.attributes) setAttributes(node, before?.attributes ?? none, child.attributes);
	if (!child.attributes.foreign) render(node, child.children);
	if (isNew) child.attributes.created?.(node);
}

const special = new Set(['key', 'created', 'props', 'css', 'foreign']);

function setAttributes(node, before, after) {
	for (const name of Object.keys(before)) {
		if (!(name in after) && !special.has(name)) setAttribute(node, name, null);
	}
	for (const [name, value] of Object.entries(after)) {
		if (special.has(name) || (before[name] === value && !name.startsWith('on'))) continue;
		setAttribute(node, name, value);
	}
	for (const [name, value] of Object.entries(after.props ?? {})) {
		if (node[name] !== value) node[name] = value;
	}
	for (const [name, value] of Object.entries(after.css ?? {})) {
		if (node.style.getPropertyValue(name) !== value) node.style.setProperty(name, value);
	}
}

function setAttribute(node, name, value) {
	if (name.startsWith('on')) {
		listen(node, name.slice(2), value);
	} else if (value === null || value === undefined || value === false) {
		node.removeAttribute(name);
	} else {
		const text = value === true ? '' : String(value);
		if (node.getAttribute(name) !== text) node.setAttribute(name, text);
	}
}

// listen keeps one listener per kind of event, whose function each rendering replaces.
function listen(node, kind, f) {
	node[listeners] ??= {};
	if (!(kind in node[listeners])) node.addEventListener(kind, (event) => node[listeners][kind]?.(event));
	node[listeners][kind] = f;
}

/** words joins class names, without those that are false or empty. */
export const words = (...names) => names.filter(Boolean).join(' ');
