// Commands to the daemon: the question before them, in the words of the consequence, their progress and their result.

import * as api from './api.js';
import {h} from './dom.js';
import {estimate, list, plural, seconds, time, wholeSeconds} from './format.js';
import {button} from './parts.js';

const alive = new Set(['ready', 'degraded']);

/** createCommands returns the commands. ctx: store, redraw. */
export function createCommands({store, redraw}) {
	let question = null;

	/** denied is why the viewer may give no commands; '' = they may. */
	const denied = () => (store.state.sections.viewer?.commands === false ? store.state.sections.viewer.why || 'This needs an operator key.' : '');

	async function run(title, name, body) {
		const update = store.addResult(title);
		const steps = [];
		try {
			const answer = await api.command(name, body, (step) => {
				steps.push(step);
				update({steps: [...steps]});
			});
			const failed = answer.step === 'failed' || answer.step === 'cancelled';
			update({state: failed ? 'failed' : 'done', text: resultText(name, answer)});
		} catch (error) {
			update({state: 'failed', text: error.message});
		}
	}

	/** ask gives a command after a question; a denied one says why instead. */
	function ask({title, consequence, action, danger, name, body}) {
		if (denied()) {
			store.addResult(title)({state: 'failed', text: denied()});
			return;
		}
		if (!consequence) {
			run(title, name, body);
			return;
		}
		question = {title, consequence, action, danger, give: () => run(title, name, body)};
		redraw();
	}

	const sections = () => store.state.sections;
	const commands = {
		denied,
		drain(server = '') {
			ask({title: server ? `Drain ${server}` : 'Drain all servers', consequence: drainConsequence(sections(), server), action: 'Drain', danger: true, name: 'drain', body: {...(server ? {servers: [server]} : {}), yes: withoutFallback(sections(), server).length > 0}});
		},
		resume(server = '') {
			ask({title: server ? `Resume ${server}` : 'Resume all servers', name: 'resume', body: server ? {servers: [server]} : {}});
		},
		restart(server) {
			ask({title: `Restart ${server}`, consequence: `${runningAt(sections(), server)} New calls go to the fallback until it is ready again${lastLoad(sections(), server)}. No call fails.`, action: 'Restart', danger: true, name: 'restart', body: {servers: [server]}});
		},
		reload() {
			ask({title: 'Reload the configuration', consequence: 'llmsup reads llmsup.yaml again. If it is not valid, the present configuration stays.', action: 'Reload', name: 'reload', body: {}});
		},
		load(server) {
			ask({title: `Load ${server}`, name: 'load', body: {server}});
		},
		unload(server) {
			ask({title: `Unload ${server}`, consequence: `${runningAt(sections(), server)} Its VRAM becomes free. The next call for it loads it again${lastLoad(sections(), server)}.`, action: 'Unload', danger: true, name: 'unload', body: {server}});
		},
		pin(server, pinned) {
			ask({title: pinned ? `Pin ${server}` : `Unpin ${server}`, name: 'pin', body: {server, pinned}});
		},
		pull(ref) {
			ask({title: `Download ${ref}`, name: 'pull', body: {ref}});
		},
		cancelPull(ref) {
			ask({title: `Cancel the download of ${ref}`, name: 'pull-cancel', body: {ref}});
		},
		/** pulling reports whether this page shows a download that runs. */
		pulling: (ref) => store.state.results.some((r) => r.state === 'running' && r.title === `Download ${ref}`),
		cancel(call) {
			ask({title: `Cancel call ${call.id}`, consequence: `The client of ${call.key || 'this call'} gets an error, or its stream ends. The call is not repeated elsewhere.`, action: 'Cancel the call', danger: true, name: 'cancel', body: {id: call.id}});
		},
		/** dialog shows the question, if there is one. */
		dialog() {
			if (!question) return null;
			const q = question;
			const close = (event, give) => {
				event.currentTarget.closest('dialog').close(); // gives the focus back
				question = null;
				if (give) q.give();
				redraw();
			};
			return h('dialog', {key: 'question', 'aria-labelledby': 'question-title', 'aria-describedby': 'question-text', created: (el) => el.showModal(), oncancel: (event) => close(event, false)},
				h('h2', {id: 'question-title'}, q.title + '?'),
				h('p', {id: 'question-text'}, q.consequence),
				h('div', {class: 'row'}, button(q.action, (event) => close(event, true), {kind: q.danger ? 'danger' : 'primary'}), button('Do nothing', (event) => close(event, false))));
		},
		/** results shows running commands and those whose result was not dismissed yet. */
		results(now) {
			const shown = store.state.results;
			if (shown.length === 0) return null;
			return h('section', {key: 'results', class: 'results', 'aria-label': 'Commands'}, shown.map((r) => h('article', {key: r.id, class: 'result ' + r.state},
				h('h2', {}, h('span', {class: 'state ' + {running: 'busy', done: 'good', failed: 'bad'}[r.state]}, {running: '◐', done: '●', failed: '▲'}[r.state] + ' '), r.title, h('span', {class: 'muted'}, r.state === 'running' ? ` running for ${wholeSeconds((now - r.at) / 1000)}` : ` ${r.state}, ${time(r.at, 'second')}`)),
				r.text && h('p', {}, r.text),
				r.steps.length > 0 && h('ol', {class: 'steps'}, r.steps.slice(-8).map((s, i) => h('li', {key: r.steps.length - 8 + i}, h('time', {}, time(s.at, 'second')), ' ', s.server && h('b', {}, s.server + ' '), s.text || s.step))),
				r.state !== 'running' && button('Dismiss', () => store.dismiss(r.id), {kind: 'quiet', label: `Dismiss: ${r.title}`}))));
		},
	};
	return commands;
}

function resultText(name, answer) {
	if (answer.text && answer.step) return answer.text;
	if (answer.changes) return answer.changes.length > 0 ? answer.changes.join(' ') : 'Nothing has changed.';
	if (name === 'restart' && answer.servers) {
		const parts = [answer.servers.length > 0 && `${list(answer.servers)} restarted.`, answer.drained?.length > 0 && `${list(answer.drained)} stays drained.`, answer.unloaded?.length > 0 && `${list(answer.unloaded)} stays unloaded.`];
		return parts.filter(Boolean).join(' ') || 'No server was restarted.';
	}
	return answer.message ?? 'Done.';
}

function runningAt(sections, server) {
	const s = sections.servers?.find((one) => one.name === server);
	return s?.busy > 0 ? `${plural(s.busy, 'running call')} can finish first.` : 'No call is running on it.';
}

function lastLoad(sections, server) {
	const s = sections.models?.find((one) => one.name === server)?.load_seconds;
	return s ? `, which took ${seconds(s)} so far` : '';
}

/** drainConsequence says what a drain of one server, or of all, does to calls. */
export function drainConsequence(sections, server) {
	const drained = of(sections, server);
	const busy = drained.filter((s) => alive.has(s.state)).reduce((sum, s) => sum + s.busy, 0);
	const routes = routesOf(sections, server);
	const targets = [...new Set(routes.map((r) => r.fallback).filter(Boolean))];
	const without = withoutFallback(sections, server);
	const today = sections.today;
	const average = today && today.cloud_calls > 0 && today.paid_usd > 0 ? today.paid_usd / today.cloud_calls : null;
	const price = routes.some((r) => r.fallback_paid) ? (average === null ? ', which is paid' : ` (about ${estimate(average)} per call, today's average)`) : '';
	return [
		busy > 0 ? `${plural(busy, 'running call')} can finish first, for at most 10 minutes.` : 'No call is running.',
		targets.length > 0 ? `New calls go to ${list(targets)}${price}.` : '',
		without.length > 0 ? `Calls for ${list(without)} are rejected: they have no fallback.` : '',
		'llama-server stops, and its VRAM becomes free.',
	].filter(Boolean).join(' ');
}

const of = (sections, server) => (sections.servers ?? []).filter((s) => !server || s.name === server);
const routesOf = (sections, server) => (sections.routes ?? []).filter((r) => r.local && of(sections, server).some((s) => s.name === r.primary));

// withoutFallback are the routes whose calls a drain rejects.
const withoutFallback = (sections, server) => routesOf(sections, server).filter((r) => !r.fallback).map((r) => r.name);
