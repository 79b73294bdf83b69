// Numbers, amounts, times and states as text. Everything goes through Intl, in the browser's language. What is not known is
// `unknown`, never 0. Units are SI symbols, which are the same in all languages.

export const unknown = 'unknown';
const space = '\u00a0'; // between a number and its unit, so that no line breaks there

const isUnknown = (v) => v === null || v === undefined || Number.isNaN(v);

const formats = new Map();
function decimal(min, max) {
	const id = `${min}-${max}`;
	if (!formats.has(id)) formats.set(id, new Intl.NumberFormat(undefined, {minimumFractionDigits: min, maximumFractionDigits: max}));
	return formats.get(id);
}

/** count formats a whole number: 1,284. */
export const count = (n) => (isUnknown(n) ? unknown : decimal(0, 0).format(n));

/** number formats a number with so many digits after the point. */
export const number = (n, digits = 1) => (isUnknown(n) ? unknown : decimal(digits, digits).format(n));

/** unit formats a number with its unit: 312 W. */
export const unit = (n, symbol, digits = 0) => (isUnknown(n) ? unknown : number(n, digits) + space + symbol);

/** percent formats a share of 1: 97.2 %. A share of nothing is unknown. */
export function percent(share, digits = 1) {
	if (isUnknown(share) || !Number.isFinite(share)) return unknown;
	return number(share * 100, digits) + space + '%';
}

/** usd formats an amount in USD with all its digits, and at least two. */
export const usd = (amount) => (isUnknown(amount) ? unknown : decimal(2, 12).format(amount) + space + 'USD');

/** amount is usd without the unit, for columns whose head names it. */
export const amount = (value) => (isUnknown(value) ? unknown : decimal(2, 12).format(value));

/** estimate formats an amount that was computed on the page and is therefore rounded: about 0.02 USD. */
export function estimate(value) {
	if (isUnknown(value)) return unknown;
	return new Intl.NumberFormat(undefined, {maximumSignificantDigits: 2}).format(value) + space + 'USD';
}

/** scaled formats a large count with three digits: 14.8 B for 14,770,033,664 parameters. */
export function scaled(n) {
	if (isUnknown(n)) return unknown;
	for (const [size, symbol] of [[1e12, 'T'], [1e9, 'B'], [1e6, 'M'], [1e3, 'k']]) {
		if (n >= size * 0.9995) return unit(n / size, symbol, n < size * 9.95 ? 2 : n < size * 99.95 ? 1 : 0);
	}
	return count(n);
}

const gib = 2 ** 30;

/** bytes formats a size in GiB, or MiB below a tenth of it, or KiB likewise. */
export function bytes(n) {
	if (isUnknown(n)) return unknown;
	if (n !== 0 && n < 2 ** 20 / 10) return unit(n / 1024, 'KiB', 1);
	return n !== 0 && n < gib / 10 ? unit(n / 2 ** 20, 'MiB', 0) : unit(n / gib, 'GiB', 1);
}

/** ofBytes formats a part of a size in one unit: 12.9 of 24.0 GiB. */
export function ofBytes(part, whole) {
	if (isUnknown(part) || isUnknown(whole)) return `${bytes(part)} of ${bytes(whole)}`;
	return whole < gib / 10 ? `${number(part / 2 ** 20, 0)} of ${unit(whole / 2 ** 20, 'MiB', 0)}` : `${number(part / gib, 1)} of ${unit(whole / gib, 'GiB', 1)}`;
}

/** seconds formats a duration with the precision that people need: 4 ms, 0.41 s, 8.2 s, 41 min, 3 h, 2 d. */
export function seconds(s) {
	if (isUnknown(s)) return unknown;
	const t = Math.max(0, s);
	if (t < 0.0995) return unit(t * 1000, 'ms');
	if (t < 0.9995) return unit(t, 's', 2);
	if (t < 9.95) return unit(t, 's', 1);
	if (t < 59.5) return unit(t, 's');
	if (t < 59.5 * 60) return unit(t / 60, 'min');
	if (t < 47.5 * 3600) return unit(t / 3600, 'h');
	return unit(t / 86400, 'd');
}

/** wholeSeconds is seconds for a time that is counted up on the page: below a minute it changes once per second. */
export const wholeSeconds = (s) => (isUnknown(s) ? unknown : s < 59.5 ? unit(Math.max(0, Math.round(s)), 's') : seconds(s));

/** milliseconds formats a duration in milliseconds. */
export const milliseconds = (ms) => (isUnknown(ms) ? unknown : seconds(ms / 1000));

/** between is the time from one moment to another in seconds; null if either is unknown. Both are RFC 3339 or milliseconds. */
export function between(from, to) {
	const a = moment(from);
	const b = moment(to);
	return a === null || b === null ? null : (b - a) / 1000;
}

/** moment is a time in milliseconds, or null. Go writes the year 1 for a time that is not set. */
export function moment(time) {
	if (isUnknown(time) || time === '') return null;
	const ms = typeof time === 'number' ? time : Date.parse(time);
	return Number.isNaN(ms) || ms < -6e13 ? null : ms;
}

// Hours are those of logs and dashboards, 0 to 23, in all languages: columns of times align.
const hours = {hourCycle: 'h23', hour: '2-digit', minute: '2-digit'};
const times = {
	clock: hours,
	second: {...hours, second: '2-digit'},
	day: {month: 'short', day: 'numeric'},
	full: {...hours, second: '2-digit', year: 'numeric', month: 'short', day: 'numeric', timeZoneName: 'short'},
	short: {...hours, second: '2-digit', month: 'short', day: 'numeric'},
};
const dateFormats = new Map();

/** time formats a moment as `clock`, `second`, `day`, `short` or `full`, in the browser's time zone, or the one that is given. */
export function time(at, style = 'full', timeZone = undefined) {
	const ms = moment(at);
	if (ms === null) return unknown;
	const id = style + timeZone;
	if (!dateFormats.has(id)) dateFormats.set(id, new Intl.DateTimeFormat(undefined, {...times[style], timeZone}));
	return dateFormats.get(id).format(ms);
}

const plurals = new Intl.PluralRules('en');

/** plural is a count with its noun: 1 call, 3 calls. */
export const plural = (n, one, many = one + 's') => `${count(n)} ${plurals.select(n) === 'one' ? one : many}`;

/** list joins names: a, b and c. */
export const list = (names) => new Intl.ListFormat('en', {type: 'conjunction'}).format(names);

const kinds = {
	ready: 'good', ok: 'good', live: 'good',
	degraded: 'warn', loading: 'busy', starting: 'busy', restarting: 'busy', draining: 'busy', unloading: 'busy', behind: 'warn', spilling: 'warn',
	failed: 'bad', failing: 'bad', lost: 'bad',
};
const shapes = {good: '●', warn: '▲', busy: '◐', bad: '▲', none: '○'};

/** stateKind is the colour of a state: good, warn, busy, bad or none. */
export const stateKind = (state) => kinds[state] ?? 'none';

/** stateShape is the shape that goes with the colour. */
export const stateShape = (state) => shapes[stateKind(state)];
