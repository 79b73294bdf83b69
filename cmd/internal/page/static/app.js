// The page: which view an address shows, the frame around it, and one rendering per change.

import * as api from './api.js';
import {createCommands} from './commands.js';
import {render} from './dom.js';
import {connect} from './events.js';
import {frame} from './frame.js';
import {createStore} from './store.js';
import * as call from './call.js';
import * as calls from './calls.js';
import * as fleet from './fleet.js';
import * as logs from './logs.js';
import * as missing from './missing.js';
import * as models from './models.js';
import * as money from './money.js';
import * as now from './now.js';
import * as tryView from './try.js';

const views = {now, calls, call, money, models, fleet, logs, try: tryView, missing};
const addresses = ['now', 'calls', 'money', 'models', 'fleet', 'logs', 'try'];
const app = document.getElementById('app');
const store = createStore();

let scheduled = false;
function redraw() {
	if (scheduled) return;
	scheduled = true;
	const draw = () => {
		scheduled = false;
		paint();
	};
	// A hidden page draws no frames; it follows slowly.
	if (document.visibilityState === 'hidden') setTimeout(draw, 1000);
	else requestAnimationFrame(draw);
}

const commands = createCommands({store, redraw});
let stream = null;
let signedIn = true; // or need not be
let streamOptions = {};

/** open opens the one stream, or opens it again with other options. */
function open(options = {}) {
	stream?.close();
	streamOptions = options;
	stream = connect(store, options);
}

// A browser opens at most six connections to a host without TLS, also for all its tabs together. So a tab that has been hidden
// for a minute gives its connection back.
const hiddenFor = 60_000;
let pause = null; // the timer that closes the stream
let paused = false;

function followVisibility() {
	clearTimeout(pause);
	if (document.visibilityState === 'hidden') {
		pause = setTimeout(() => {
			paused = store.state.connection !== 'signin';
			if (paused) stream?.close();
		}, hiddenFor);
	} else if (paused) {
		paused = false;
		open(streamOptions);
	}
	redraw();
}

const context = {store, redraw, commands, open, go, retry: () => stream?.retry(), signIn, signOut, params: new URLSearchParams()};
let current = {name: '', id: '', view: null};

/** go shows an address of the page. replace changes the present address, for filters. */
function go(address, {replace = false} = {}) {
	history[replace ? 'replaceState' : 'pushState'](null, '', address);
	route(!replace);
}

function route(moved) {
	const [, name = '', id = ''] = location.pathname.match(/^\/ui\/([^/]*)\/?(.*)$/) ?? [];
	const wanted = name === 'calls' && id ? 'call' : name === '' ? 'now' : addresses.includes(name) && !id ? name : 'missing';
	context.params = new URLSearchParams(location.search);
	if (current.name !== wanted || current.id !== id) {
		current.view?.leave?.();
		current = {name: wanted, id, view: views[wanted].create({...context, id: decodeURIComponent(id), get params() { return context.params; }})};
	}
	if (signedIn) current.view.enter?.();
	redraw();
	if (!moved) return;
	paint();
	scrollTo(0, 0);
	document.getElementById('main')?.focus({preventScroll: true}); // a screen reader continues at the new view
}

function paint() {
	if (!current.view) return;
	const view = views[current.name];
	document.title = `${view.title} · ${store.state.sections.box?.name ?? 'llmsup'} · llmsup`;
	render(app, frame(context, {name: current.name, title: view.title, content: () => current.view.draw(store.state)}));
}

async function signIn(key) {
	await api.signIn(key);
	signedIn = true;
	stream = null;
	current.view?.signedIn?.();
	if (stream === null) open();
	route(false);
}

async function signOut() {
	await api.signOut();
	askForKey();
}

function askForKey() {
	signedIn = false;
	stream?.close();
	store.signIn();
}

api.signInWith(() => {
	if (store.state.connection !== 'signin') askForKey();
});

// Links inside the page change the view without loading it again; with a modifier they open a tab, as elsewhere.
document.addEventListener('click', (event) => {
	const link = event.target.closest?.('a[href]');
	if (!link || event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
	const url = new URL(link.href);
	if (url.origin !== location.origin || !url.pathname.startsWith('/ui/') || url.pathname.startsWith('/ui/api/') || link.hasAttribute('download') || url.hash) return;
	event.preventDefault();
	go(url.pathname + url.search);
});
addEventListener('popstate', () => route(true));
document.addEventListener('visibilitychange', followVisibility);
store.subscribe(redraw);
setInterval(redraw, 1000); // ages

// A browser reports an answer of 401 as an error in its console, so the page asks first whether it needs a key.
const session = await api.session().catch(() => ({signed_in: true})); // the stream says why llmsup does not answer
if (session.signed_in) open();
else askForKey();
route(false);
