// Tests of static/chart.js, run by node --test.
import assert from 'node:assert/strict';
import {test} from 'node:test';

const {dots, linePath, shares, ticks} = await import(process.env.PAGE_STATIC + '/chart.js');

test('ticks start at 0, reach the largest value, and are at most four', () => {
	for (const max of [0.00001, 0.03, 0.9, 1, 1.01, 3, 7, 10, 64, 99, 100, 312, 450, 25_769_803_776]) {
		const t = ticks(max);
		assert.equal(t[0], 0);
		assert.ok(t.at(-1) >= max, `${max}: ${t}`);
		assert.ok(t.length >= 2 && t.length <= 4, `${max}: ${t}`);
		assert.ok(t.at(-1) <= 3 * max, `${max}: ${t} is mostly empty`);
	}
	assert.deepEqual(ticks(0), [0, 1]);
	assert.deepEqual(ticks(4.1), [0, 2, 4, 6]);
});

test('a line starts at the bottom for 0, and is interrupted by unknown values', () => {
	assert.equal(linePath([0, 50, 100], 100), 'M0 100L50 50L100 0');
	assert.equal(linePath([0, null, 100, 100], 100), 'M0 100L0 100M66.67 0L100 0');
	assert.equal(linePath([null, undefined], 100), '');
	assert.equal(linePath([], 100), '');
	assert.equal(linePath([200, -5], 100), 'M0 0L100 100', 'values beyond the axis stay inside');
});

test('a value without a neighbour is a dot', () => {
	assert.equal(linePath([50], 100), 'M50 50L50 50');
	assert.equal(dots([50], 100), 'M50 50L50 50');
	assert.equal(dots([0, null, 100, 100], 100), 'M0 100L0 100');
	assert.equal(dots([0, 50, 100], 100), '');
});

test('the parts of a bar add up, and are cut at the whole', () => {
	assert.deepEqual(shares([25, 50], 100), [{x: 0, width: 25}, {x: 25, width: 50}]);
	assert.deepEqual(shares([80, 80], 100), [{x: 0, width: 80}, {x: 80, width: 20}]);
	assert.deepEqual(shares([5], 0), [{x: 0, width: 0}]);
});
