// Reads server-sent events from a fetch's body. EventSource would hide the status of a refused stream (sign in) and the pause
// before the next attempt, and cannot POST.

/** parser returns a function that takes text as it arrives and calls onEvent({event, data, id}) for each complete event. */
export function parser(onEvent) {
	let rest = '';
	let event = {event: '', data: [], id: null};
	const line = (text) => {
		if (text === '') {
			if (event.data.length > 0) onEvent({event: event.event || 'message', data: event.data.join('\n'), id: event.id});
			event = {event: '', data: [], id: null};
			return;
		}
		const colon = text.indexOf(':');
		if (colon === 0) return; // a comment keeps the connection open
		const name = colon < 0 ? text : text.slice(0, colon);
		const value = colon < 0 ? '' : text.slice(colon + 1).replace(/^ /, '');
		if (name === 'data') event.data.push(value);
		else if (name === 'event') event.event = value;
		else if (name === 'id') event.id = value;
	};
	return (text) => {
		rest += text;
		const lines = rest.split(/\r\n|\n|\r(?!$)/);
		rest = lines.pop();
		lines.forEach(line);
	};
}

/** read reads a response's body to its end, and calls onEvent for each event and onBytes for each part that arrives. */
export async function read(response, onEvent, onBytes = () => {}) {
	const reader = response.body.getReader();
	const decoder = new TextDecoder();
	const parse = parser(onEvent);
	try {
		for (;;) {
			const {done, value} = await reader.read();
			if (done) return;
			onBytes(value.length);
			parse(decoder.decode(value, {stream: true}));
		}
	} finally {
		reader.cancel().catch(() => {}); // also after an exception of onEvent
	}
}
