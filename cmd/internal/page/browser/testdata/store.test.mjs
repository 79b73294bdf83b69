// Tests of static/store.js, sse.js and answer.js, run by node --test.
import assert from 'node:assert/strict';
import {test} from 'node:test';

const from = process.env.PAGE_STATIC;
const {createStore, staleAfter, useUp} = await import(from + '/store.js');
const {parser} = await import(from + '/sse.js');
const {costOf, createAnswer, speed} = await import(from + '/answer.js');

const event = (kind, data, id = 'e-1') => ({event: kind, data: JSON.stringify(data), id});

test('a change replaces whole sections, a snapshot all of them', () => {
	const store = createStore(() => 0);
	store.apply(event('snapshot', {box: {name: 'a'}, servers: [1, 2]}, 'e-1'));
	store.apply(event('change', {servers: [3]}, 'e-2'));
	assert.deepEqual(store.state.sections, {box: {name: 'a'}, servers: [3]});
	assert.equal(store.state.lastId, 'e-2');
	store.apply(event('snapshot', {box: {name: 'b'}}, 'f-1'));
	assert.deepEqual(store.state.sections, {box: {name: 'b'}});
	store.apply(event('of a later version', {box: 1}, 'f-2'));
	assert.equal(store.state.lastId, 'f-1', 'what was not applied is not acknowledged');
});

test('values are old 10 s after the connection broke', () => {
	let now = 0;
	const store = createStore(() => now);
	store.connected(null);
	now = 1e6;
	assert.equal(store.stale(), false);
	store.disconnected('refused', now + 1000);
	now += staleAfter;
	assert.equal(store.stale(), false);
	store.disconnected('refused', now + 1000); // another attempt does not start the time again
	now += 1;
	assert.equal(store.stale(), true);
	store.connected(null);
	assert.equal(store.stale(), false);
});

test("the daemon's clock counts", () => {
	const store = createStore(() => 100_000);
	store.connected(160_000);
	assert.equal(store.now(), 160_000);
	store.connected(100_900);
	assert.equal(store.now(), 100_000, 'the header has whole seconds: less is no difference');
});

test('signing out forgets what the key could see', () => {
	const store = createStore(() => 0);
	store.apply(event('snapshot', {box: {}}));
	store.apply(event('log', {server: '', at: '1', text: 'x'}));
	store.signIn();
	assert.deepEqual([store.state.sections, store.state.lines, store.state.lastId], [{}, [], '']);
});

const moment = (ms) => new Date(ms).toISOString();

test('lines of several sources are in the order of time', () => {
	const store = createStore(() => 0);
	for (const [server, at] of [['', '2026-11-30T00:00:01Z'], ['', '2026-11-30T00:00:03.5Z'], ['s', '2026-11-30T00:00:02Z'], ['s', '2026-11-30T00:00:02.25Z'], ['s', '2026-11-30T00:00:04Z']]) store.apply(event('log', {server, at, text: at.slice(18)}));
	assert.deepEqual(store.state.lines.map((l) => l.text), ['1Z', '2Z', '2.25Z', '3.5Z', '4Z']);
});

test('a resumed stream repeats lines, which appear once', () => {
	const store = createStore(() => 0);
	for (const [at, text] of [[1, 'a'], [2, 'b'], [1, 'a'], [2, 'b'], [2, 'c']]) store.apply(event('log', {server: 's', at: moment(at), text}));
	assert.deepEqual(store.state.lines.map((l) => l.text), ['a', 'b', 'c']);
	for (let i = 0; i < 3000; i++) store.apply(event('log', {server: 't', at: moment(i), text: String(i)}));
	assert.equal(store.state.lines.length, 2000);
	assert.equal(store.state.lines.at(-1).text, '2999');
});

test('a result stays until it is dismissed', () => {
	const store = createStore(() => 5);
	const update = store.addResult('Drain');
	update({state: 'done', text: 'drained'});
	assert.deepEqual(store.state.results.map((r) => [r.title, r.state, r.text]), [['Drain', 'done', 'drained']]);
	store.dismiss(store.state.results[0].id);
	assert.deepEqual(store.state.results, []);
});

test('when a budget is used up at this rate', () => {
	const noon = Date.parse('2026-11-30T12:00:00Z');
	const budget = {period: 'daily', ends: '2026-12-01T00:00:00Z', limit_usd: 5, spent_usd: 4, reserved_usd: 0};
	assert.equal(new Date(useUp(budget, noon)).toISOString(), '2026-11-30T15:00:00.000Z');
	assert.equal(useUp({...budget, spent_usd: 1}, noon), null);
	assert.equal(useUp({...budget, spent_usd: 0}, noon), null);
	assert.equal(useUp({...budget, spent_usd: 4, reserved_usd: 1}, noon), noon);
	const month = {period: 'monthly', ends: '2026-12-01T00:00:00Z', limit_usd: 30, spent_usd: 15, reserved_usd: 0};
	assert.equal(new Date(useUp(month, Date.parse('2026-11-11T00:00:00Z'))).toISOString(), '2026-11-21T00:00:00.000Z');
});

test('server-sent events arrive in any pieces', () => {
	const text = ': comment\n\nid: e-1\nevent: change\ndata: {"a":\ndata: 1}\n\r\ndata: 2\r\n\r\nevent: empty\n\n';
	const want = [{event: 'change', data: '{"a":\n1}', id: 'e-1'}, {event: 'message', data: '2', id: null}];
	for (let size = 1; size <= text.length; size++) {
		const got = [];
		const parse = parser((e) => got.push(e));
		for (let i = 0; i < text.length; i += size) parse(text.slice(i, i + size));
		assert.deepEqual(got, want, `in pieces of ${size}`);
	}
});

test('an answer: text, times, speed and cost', () => {
	const a = createAnswer({}, 1000);
	a.backend = 'gpu';
	a.add('{"choices":[{"delta":{"role":"assistant","content":""}}]}', 1100);
	assert.equal(a.firstAt, null, 'a role is no token');
	a.add('{"choices":[{"delta":{"content":" 1"}}]}', 1500);
	a.add('{"choices":[{"delta":{"content":" 2"}}]}', 2000);
	a.add('{"choices":[],"usage":{"prompt_tokens":1000000,"completion_tokens":11}}', 2100);
	a.add('[DONE]', 2100);
	a.end(2200);
	assert.deepEqual([a.text, a.firstAt, a.problem, speed(a)], [' 1 2', 1500, '', 20]);
	assert.deepEqual(costOf(a, {local: true, primary: 'gpu', price_in: 1, price_out: 1}), {amount: 0, exact: true});
	assert.deepEqual(costOf({...a, backend: 'cloud'}, {local: true, primary: 'gpu', fallback_paid: true, price_in: 2, price_out: 0}), {amount: 2, exact: false});
	assert.equal(costOf({...a, backend: 'cloud'}, {local: false, paid: true, price_in: null, price_out: null}), null);
	const cut = createAnswer({}, 0);
	cut.add('{"choices":[{"delta":{"content":"x"}}]}', 1);
	cut.end(2);
	assert.match(cut.problem, /before its end mark/);
	const failed = createAnswer({}, 0);
	failed.add('{"error":{"message":"the GPU is lost"}}', 1);
	failed.end(2);
	assert.equal(failed.problem, 'the GPU is lost');
});
