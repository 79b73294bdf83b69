// Tests of static/format.js and static/period.js, run by node --test. TestNode sets the language and the time zone.
import assert from 'node:assert/strict';
import {test} from 'node:test';

const f = await import(process.env.PAGE_STATIC + '/format.js');
const p = await import(process.env.PAGE_STATIC + '/period.js');
const plain = (text) => text.replaceAll('\u00a0', ' ').replaceAll('\u202f', ' ');

test('unknown is unknown, never 0', () => {
	for (const name of ['count', 'number', 'percent', 'usd', 'amount', 'estimate', 'bytes', 'seconds', 'wholeSeconds', 'milliseconds', 'time']) {
		for (const nothing of [null, undefined, NaN]) assert.equal(f[name](nothing), 'unknown', `${name}(${nothing})`);
	}
	assert.equal(f.unit(null, 'W'), 'unknown');
	assert.equal(f.percent(0 / 0), 'unknown');
	assert.equal(f.percent(1 / 0), 'unknown');
	assert.equal(f.time('0001-01-01T00:00:00Z'), 'unknown', "Go's zero time");
	assert.equal(plain(f.usd(0)), '0.00 USD');
	assert.equal(f.count(0), '0');
});

test('numbers', () => {
	const cases = [
		[f.count(1284), '1,284'], [f.percent(0.972), '97.2 %'], [f.unit(312.4, 'W'), '312 W'],
		[f.usd(4.1), '4.10 USD'], [f.usd(0.000031), '0.000031 USD'], [f.usd(0.123456789012), '0.123456789012 USD'], [f.usd(1234.5), '1,234.50 USD'],
		[f.estimate(0.008726), '0.0087 USD'], [f.plural(1, 'call'), '1 call'], [f.plural(2, 'call'), '2 calls'], [f.plural(0, 'call'), '0 calls'],
		[f.list(['a', 'b', 'c']), 'a, b, and c'],
	];
	for (const [got, want] of cases) assert.equal(plain(got), want);
});

test('sizes', () => {
	const gib = 2 ** 30;
	const cases = [[f.bytes(9.4 * gib), '9.4 GiB'], [f.bytes(0), '0.0 GiB'], [f.bytes(2 ** 20 * 5), '5 MiB'], [f.ofBytes(12.9 * gib, 24 * gib), '12.9 of 24.0 GiB'], [f.ofBytes(null, 24 * gib), 'unknown of 24.0 GiB']];
	for (const [got, want] of cases) assert.equal(plain(got), want);
});

test('small sizes', () => {
	for (const [n, want] of [[214, '0.2 KiB'], [1_048_576, '1 MiB'], [0, '0.0 GiB']]) assert.equal(plain(f.bytes(n)), want, String(n));
});

test('counts with three digits', () => {
	const cases = [[999, '999'], [14_770_033_664, '14.8 B'], [494_032_768, '494 M'], [1_777_088_000, '1.78 B'], [999_900, '1.00 M'], [null, 'unknown']];
	for (const [n, want] of cases) assert.equal(plain(f.scaled(n)), want, String(n));
});

test('durations', () => {
	const cases = [[0, '0 ms'], [0.0042, '4 ms'], [0.0994, '99 ms'], [0.0999, '0.10 s'], [0.41, '0.41 s'], [0.9999, '1.0 s'], [9.94, '9.9 s'], [9.96, '10 s'], [59.4, '59 s'], [60, '1 min'], [59.4 * 60, '59 min'], [3600, '1 h'], [47 * 3600, '47 h'], [48 * 3600, '2 d'], [-3, '0 ms']];
	for (const [s, want] of cases) assert.equal(plain(f.seconds(s)), want, String(s));
	assert.equal(plain(f.wholeSeconds(2.4)), '2 s');
	assert.equal(f.between('2026-11-30T00:00:00Z', '2026-11-30T00:00:01.5Z'), 1.5);
	assert.equal(f.between(null, 5), null);
});

test('times have 24 hours', () => {
	assert.equal(f.time('2026-11-30T00:05:09Z', 'second'), '00:05:09');
	assert.equal(f.time('2026-11-30T23:05:09Z', 'clock'), '23:05');
	assert.equal(f.time('2026-11-30T00:05:09Z', 'day'), 'Nov 30');
});

test('a state has a colour and a shape, and an unknown one is grey', () => {
	for (const [state, kind] of [['ready', 'good'], ['degraded', 'warn'], ['loading', 'busy'], ['draining', 'busy'], ['failed', 'bad'], ['unloaded', 'none'], ['new state', 'none']]) assert.equal(f.stateKind(state), kind);
	assert.equal(f.stateShape('failed'), '▲');
});

test('periods', () => {
	const now = Date.parse('2026-11-30T12:00:00Z');
	assert.equal(p.sinceOf('24h', now), '2026-11-29T12:00:00.000Z');
	assert.equal(p.sinceOf('7d', now), '2026-11-23T12:00:00.000Z');
	assert.equal(p.sinceOf('2026-11-01T00:00:00Z', now), '2026-11-01T00:00:00Z');
	assert.deepEqual(p.daysOf('2026-11-28T12:00:00Z', now), ['2026-11-28', '2026-11-29', '2026-11-30']);
	assert.equal(p.daysOf('1999-01-01T00:00:00Z', now).length, 400);
});
