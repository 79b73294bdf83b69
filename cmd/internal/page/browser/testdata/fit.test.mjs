// Tests of static/fit.js, run by node --test.
import assert from 'node:assert/strict';
import {test} from 'node:test';

const {fit} = await import(process.env.PAGE_STATIC + '/fit.js');

const gib = 2 ** 30;
const gpu = (index, free, total) => ({index, memory_free_bytes: free === null ? null : free * gib, memory_total_bytes: total * gib});
const on = (need, ...gpus) => gpus.map((index) => ({gpu: index, need_bytes: need === null ? null : need * gib}));
const both = (need, each) => [on(need, 0), on(need, 1), on(each, 0, 1)];

test('a model fits a GPU, several together, or none', () => {
	const cases = {
		'the first': [both(4, 2.5), [gpu(0, 5, 24), gpu(1, 20, 24)], 'ready', 'fits GPU 0'],
		'another one': [both(10, 5.5), [gpu(0, 5, 24), gpu(1, 20, 24)], 'ready', 'fits GPU 1'],
		'exactly': [[on(5, 0)], [gpu(0, 5, 24)], 'ready', 'fits GPU 0'],
		'split': [both(30, 15.5), [gpu(0, 16, 24), gpu(1, 20, 24)], 'ready', 'fits GPU 0+1 split'],
		'the sum is not enough if one GPU is full': [both(24.5, 12.5), [gpu(0, 2, 24), gpu(1, 24, 24)], 'starting', 'needs 0.5 GiB more than GPU 1 has free'],
		'once others leave': [[on(8.1, 0)], [gpu(0, 5, 24)], 'starting', 'needs 3.1 GiB more than GPU 0 has free'],
		'split, once others leave': [both(40, 20.5), [gpu(0, 20, 24), gpu(1, 20, 24)], 'starting', 'needs 1.0 GiB more than GPU 0+1 have free'],
		'never': [[on(27.1, 0)], [gpu(0, 24, 24)], 'failed', 'needs 3.1 GiB more than GPU 0 has'],
		'never, split': [both(60, 30.5), [gpu(0, 24, 24), gpu(1, 24, 24)], 'failed', 'needs 13.0 GiB more than GPU 0+1 have'],
		'the configured one': [[on(10, 0)], [gpu(0, 5, 24), gpu(1, 24, 24)], 'starting', 'needs 5.0 GiB more than GPU 0 has free'],
	};
	for (const [name, [placements, gpus, state, text]] of Object.entries(cases)) {
		const got = fit(placements, gpus);
		assert.deepEqual({state: got?.state, text: got?.text.replaceAll('\u00a0', ' ')}, {state, text}, name);
	}
});

test('unknown needs, GPUs and sizes are unknown', () => {
	const gpus = [gpu(0, 5, 24)];
	for (const [placements, some] of [[null, gpus], [[], gpus], [undefined, undefined], [[on(null, 0)], gpus], [[on(1, 7)], gpus], [[on(1, 0)], []], [[on(1, 0)], [gpu(0, null, 24)]], [[[]], gpus]]) assert.equal(fit(placements, some), null);
});
