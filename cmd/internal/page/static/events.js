// The one stream of events of the page: it fills the store, and reconnects by itself.

import {asError} from './api.js';
import {read} from './sse.js';

const silence = 40_000; // the daemon writes a comment every 15 s; without one, the connection is dead
const pauses = [1000, 2000, 3000, 5000]; // before each attempt, the last one repeats

/** connect keeps a stream open until close is called. options: logs (send the lines of llmsup and of all servers, too). */
export function connect(store, options = {}) {
	let stopped = false;
	let abort = new AbortController();
	let wake = () => {};
	let attempt = 0;

	async function once() {
		abort = new AbortController();
		let watchdog = setTimeout(() => abort.abort(), silence);
		const alive = () => {
			clearTimeout(watchdog);
			watchdog = setTimeout(() => abort.abort(), silence);
		};
		try {
			const headers = store.state.lastId ? {'Last-Event-ID': store.state.lastId} : {};
			const response = await fetch('/ui/events' + (options.logs ? '?logs=1' : ''), {headers, cache: 'no-store', signal: abort.signal});
			if (!response.ok) throw await asError(response);
			attempt = 0;
			store.connected(Date.parse(response.headers.get('Date') ?? '') || null);
			await read(response, (event) => store.apply(event), alive);
			return 'the daemon closed the connection';
		} finally {
			clearTimeout(watchdog);
		}
	}

	async function run() {
		while (!stopped) {
			let problem;
			try {
				problem = await once();
			} catch (error) {
				if (error.code === 'sign_in') return; // app.js shows the form and connects again
				problem = error.status ? error.message : 'llmsup does not answer';
			}
			if (stopped) return;
			const pause = pauses[Math.min(attempt++, pauses.length - 1)];
			store.disconnected(problem, Date.now() + pause);
			await new Promise((resolve) => {
				wake = resolve;
				setTimeout(resolve, pause);
			});
		}
	}
	run();
	const now = () => wake();
	window.addEventListener('online', now);
	return {
		/** retry does not wait for the end of the pause. */
		retry: now,
		close() {
			stopped = true;
			window.removeEventListener('online', now);
			abort.abort();
			wake();
		},
	};
}
