// The frame around each view: header, connection, drain banner, navigation, sign-in, results of commands.

import {h, words} from './dom.js';
import {plural, seconds, time, wholeSeconds} from './format.js';
import {button, state as badge} from './parts.js';

const entries = [['now', 'Now'], ['calls', 'Calls'], ['money', 'Money'], ['models', 'Models'], ['fleet', 'Fleet'], ['logs', 'Logs'], ['try', 'Try']];

/** frame describes the whole page. view: name, title, content (a function). */
export function frame(context, view) {
	const {store, commands} = context;
	const {connection, sections} = store.state;
	const signedOut = connection === 'signin';
	return [
		h('a', {class: 'skip', href: '#main'}, 'Skip to the content'),
		header(context),
		!signedOut && banner(context),
		h('div', {class: words('columns', store.stale() && 'stale')},
			h('nav', {'aria-label': 'Views'}, h('ul', {}, entries.filter(([name]) => name !== 'fleet' || sections.fleet).map(([name, title]) => h('li', {key: name},
				h('a', {href: '/ui/' + name, 'aria-current': name === view.name || (name === 'calls' && view.name === 'call') ? 'page' : null}, title))))),
			h('main', {id: 'main', tabindex: -1, 'aria-label': view.title},
				signedOut ? signInForm(context) : [commands.results(store.now()), sections.box ? h('div', {key: 'view-' + view.name, class: 'view'}, view.content()) : h('p', {key: 'connecting', class: 'muted'}, connection === 'reconnecting' ? `llmsup cannot be reached: ${store.state.problem}.` : 'Connecting to llmsup ...')])),
		commands.dialog(),
		h('div', {class: 'hidden', role: 'status', 'aria-live': 'polite'}, announcement(store.state)),
	];
}

function header({store, commands, retry, signOut}) {
	const {sections} = store.state;
	const {box, viewer, drain} = sections;
	return h('header', {},
		h('a', {class: 'brand', href: '/ui/now'}, 'llmsup'),
		box && h('span', {class: 'box'}, h('b', {}, box.name), h('span', {class: 'muted'}, ' · ' + box.version)),
		h('span', {class: 'grow'}),
		connectionState(store, retry),
		viewer && viewer.keys && h('span', {class: 'viewer'}, h('span', {class: 'muted'}, 'key '), viewer.key || 'none', ' ', viewer.key && button('Sign out', signOut, {kind: 'quiet'})),
		viewer && (drain ? button('Resume', () => commands.resume(), {denied: commands.denied(), kind: 'primary'}) : button('Drain…', () => commands.drain(), {denied: commands.denied(), disabled: !(sections.servers?.length > 0)})));
}

function connectionState(store, retry) {
	const {connection, since, retryAt} = store.state;
	const elapsed = (Date.now() - since) / 1000;
	if (connection === 'live') return h('span', {class: 'connection'}, badge('live'));
	if (connection === 'signin') return h('span', {class: 'connection'}, badge('unknown', 'signed out'));
	if (connection === 'connecting') return h('span', {class: 'connection'}, badge('starting', 'connecting'));
	const left = Math.ceil((retryAt - Date.now()) / 1000);
	return h('span', {class: 'connection', title: store.state.problem}, badge('lost', `reconnecting for ${wholeSeconds(elapsed)}`), ' ', button(left > 0 ? `Try now (next in ${left} s)` : 'Trying', retry, {kind: 'quiet', disabled: left <= 0}));
}

function banner({store, commands}) {
	const {sections} = store.state;
	const {drain, viewer} = sections;
	const now = store.now();
	const notes = [];
	if (drain) {
		const running = sections.inflight?.total ?? 0;
		notes.push(h('div', {key: 'drain', class: 'banner warn'}, badge('draining', 'Drained'), ` by an operator for ${wholeSeconds((now - Date.parse(drain.since)) / 1000)}: no call goes to a local server. `,
			drain.until ? `It ends by itself at ${time(drain.until, 'clock')} (in ${seconds((Date.parse(drain.until) - now) / 1000)}).` : 'It ends with Resume.', ' ', plural(running, 'call'), ' in flight.'));
	}
	if (viewer && !viewer.commands) notes.push(h('div', {key: 'readonly', class: 'banner'}, h('b', {}, 'Read only: '), commands.denied()));
	if (sections.ledger && sections.ledger.condition !== 'ok' && sections.ledger.reason) notes.push(h('div', {key: 'ledger', class: 'banner warn'}, badge(sections.ledger.condition, 'Ledger ' + sections.ledger.condition), ': ', sections.ledger.reason));
	return notes.length > 0 ? h('div', {key: 'banners', class: 'banners'}, notes) : null;
}

const form = {problem: '', busy: false};

function signInForm({signIn, redraw}) {
	const submit = async (event) => {
		event.preventDefault();
		const input = event.currentTarget.querySelector('input');
		form.busy = true;
		redraw();
		try {
			await signIn(input.value.trim());
			form.problem = '';
		} catch (error) {
			form.problem = error.message;
			input.select();
			input.focus();
		} finally {
			form.busy = false;
			redraw();
		}
	};
	return h('form', {key: 'signin', class: 'signin', onsubmit: submit},
		h('h1', {}, 'Sign in'),
		h('p', {}, 'This llmsup asks for an API key. A key sees its own calls and spending; an operator key sees everything and gives commands.'),
		h('label', {class: 'field', for: 'key'}, 'API key'),
		// The name keeps a password manager from saving it under the address of another page.
		h('input', {id: 'key', name: 'key', type: 'password', autocomplete: 'off', spellcheck: 'false', required: true, 'aria-describedby': 'key-help', 'aria-invalid': form.problem ? 'true' : null, created: (el) => el.focus()}),
		h('p', {id: 'key-help', class: form.problem ? 'problem' : 'muted', role: form.problem ? 'alert' : null}, form.problem || 'It is sent once, to get a session cookie, and is not kept in this browser. New keys: llmsup key new NAME.'),
		h('button', {type: 'submit', class: 'primary', props: {disabled: form.busy}}, 'Sign in'));
}

function announcement({connection, results}) {
	const last = results.at(-1);
	const command = last ? `${last.title}: ${last.state}. ${last.state === 'running' ? '' : last.text}` : '';
	return connection === 'reconnecting' ? 'The connection to llmsup is lost; reconnecting.' : command;
}
