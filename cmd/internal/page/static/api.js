// Requests to the daemon. Only this module and events.js do I/O. A key is sent once, to get a session, and never kept.

const base = '/ui/api/';

/** ApiError is an answer with an error: status, and code and message of the daemon. */
export class ApiError extends Error {
	constructor(status, code, message) {
		super(message);
		this.status = status;
		this.code = code;
	}
}

let onSignIn = () => {};
/** signInWith sets what happens if the daemon asks for a key. */
export function signInWith(f) {
	onSignIn = f;
}

/** asError reads the error of an answer: OpenAI's format, or any text of a proxy in between. */
export async function asError(response) {
	let code = '';
	let message = '';
	try {
		const body = await response.json();
		code = body.error?.code ?? '';
		message = body.error?.message ?? (typeof body.error === 'string' ? body.error : '');
	} catch {
		// not JSON
	}
	if (response.status === 401 && code === 'sign_in') onSignIn();
	return new ApiError(response.status, code, message || `the daemon answered with status ${response.status}`);
}

async function send(path, options = {}) {
	let response;
	try {
		response = await fetch(path, {cache: 'no-store', ...options});
	} catch (error) {
		if (error.name === 'AbortError') throw error;
		throw new ApiError(0, 'connection', 'no answer from llmsup: the connection failed');
	}
	if (!response.ok) throw await asError(response);
	return response;
}

const json = (body, more = {}) => ({method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify(body), ...more});

/** query builds a query string of the values that are set. */
export const query = (values) => new URLSearchParams(Object.entries(values).filter(([, v]) => v !== '' && v !== null && v !== undefined)).toString();

/** session says whether this browser is signed in, or need not be. */
export const session = async () => (await send(base + 'session')).json();
export const signIn = (key) => send(base + 'session', json({key}));
export const signOut = () => send(base + 'session', {method: 'DELETE'});
export const calls = async (filters, signal) => (await send(base + 'calls?' + query(filters), {signal})).json();
export const call = async (id, signal) => (await send(base + 'calls/' + encodeURIComponent(id), {signal})).json();
export const csvAddress = (filters) => base + 'calls.csv?' + query(filters);
export const files = async (signal) => (await send(base + 'files', {signal})).json();
export const usage = async (filters, signal) => (await send(base + 'usage?' + query(filters), {signal})).json();

/** command gives a command. onStep gets each line of its progress; the result is the last one, or the whole answer. */
export async function command(name, body, onStep = () => {}) {
	const response = await send(base + name, json(body));
	if (response.status === 204) return {};
	if (!(response.headers.get('Content-Type') ?? '').startsWith('application/x-ndjson')) return response.json();
	const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
	let rest = '';
	let last = {};
	for (;;) {
		const {done, value} = await reader.read().catch(() => {
			throw new ApiError(0, 'connection', 'the connection to llmsup broke; it continues with the command');
		});
		const lines = (rest + (value ?? '')).split('\n');
		rest = done ? '' : lines.pop();
		for (const line of lines.filter(Boolean)) {
			last = JSON.parse(line);
			onStep(last);
		}
		if (done) return last;
	}
}

/** chat sends a chat completion as any client would. It returns the response, whatever its status. */
export function chat(body, signal) {
	return fetch('/ui/v1/chat/completions', json(body, {signal, cache: 'no-store'}));
}
