// Try: a chat with a route, or with two side by side, with first-token time, tokens per second and cost.

import * as api from './api.js';
import {h, words} from './dom.js';
import {count, estimate, milliseconds, number, unknown, usd} from './format.js';
import {button, empty, select, value} from './parts.js';
import {read} from './sse.js';
import {createAnswer, speed, costOf} from './answer.js';

export const title = 'Try';

export function create(context) {
	const {redraw} = context;
	let prompt = 'Count to twenty.';
	let limit = 64;
	let two = false;
	const columns = [column(), column()];

	function column() {
		return {model: '', answer: null, abort: null};
	}

	async function send(c) {
		c.abort = new AbortController();
		const body = {model: c.model, messages: [{role: 'user', content: prompt}], max_tokens: limit, stream: true, stream_options: {include_usage: true}};
		const answer = c.answer = createAnswer(body, performance.now());
		redraw();
		try {
			const response = await api.chat(body, c.abort.signal);
			answer.headers = [...response.headers].map(([name, text]) => `${name}: ${text}`).join('\n');
			answer.backend = response.headers.get('X-Llmsup-Backend') ?? '';
			answer.reason = response.headers.get('X-Llmsup-Reason') ?? '';
			answer.status = response.status;
			if (!response.ok) answer.fail((await api.asError(response)).message);
			else await read(response, (event) => {
				answer.add(event.data, performance.now());
				redraw();
			});
			answer.end(performance.now());
		} catch (error) {
			answer.fail(error.name === 'AbortError' ? 'You stopped it.' : 'The connection to llmsup broke.');
			answer.end(performance.now());
		}
		c.abort = null;
		redraw();
	}

	const active = () => columns.slice(0, two ? 2 : 1);
	return {
		leave: () => columns.forEach((c) => c.abort?.abort()),
		draw({sections: s}) {
			const routes = s.routes ?? [];
			if (routes.length === 0) return [h('h1', {}, 'Try'), empty('There is no route to try.', h('p', {}, 'Add one to ', h('code', {}, 'routes:'), ' in llmsup.yaml and reload, or start llmsup with a model.'))];
			columns[0].model ||= routes.find((r) => r.local)?.name ?? routes[0].name;
			columns[1].model ||= second(routes, columns[0].model);
			const running = active().some((c) => c.abort);
			const paid = active().some((c) => isPaid(routes, c.model));
			const submit = (event) => {
				event.preventDefault();
				if (!running) active().forEach(send);
			};
			return [
				h('h1', {}, 'Try'),
				h('form', {key: 'form', class: 'try', onsubmit: submit},
					h('label', {class: 'field wide-field'}, h('span', {}, 'Message'), h('textarea', {required: true, rows: 3, oninput: (event) => { prompt = event.target.value; }, created: (el) => { el.value = prompt; },
						onkeydown: (event) => { if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) event.currentTarget.form.requestSubmit(); }})),
					h('div', {class: 'filters'},
						active().map((c, i) => select(two ? `Model ${i + 1}` : 'Model', c.model, choices(routes), (v) => { c.model = v; redraw(); })),
						h('label', {class: 'field'}, h('span', {}, 'At most, tokens'), h('input', {type: 'number', min: 1, max: 100000, required: true, oninput: (event) => { limit = Number(event.target.value); }, created: (el) => { el.value = limit; }})),
						h('label', {class: 'check'}, h('input', {type: 'checkbox', onchange: (event) => { two = event.target.checked; redraw(); }}), ' Compare two')),
					h('div', {class: 'row'},
						running ? button('Stop', () => active().forEach((c) => c.abort?.abort()), {kind: 'danger', key: 'stop'}) : h('button', {key: 'send', type: 'submit', class: 'primary'}, paid ? 'Send (paid)' : 'Send'),
						h('span', {class: words('price', paid && 'reason')}, active().map((c, i) => h('span', {key: i}, price(routes, c.model), ' '))))),
				h('div', {key: 'answers', class: words('answers-try', two && 'two')}, active().map((c, i) => h('section', {key: i, 'aria-label': `Answer of ${c.model}`}, shown(c, routes)))),
			];
		},
	};
}

const choices = (routes) => [
	...routes.map((r) => [r.name, `${r.name} – ${r.paid ? 'paid' : r.local ? 'local, free' : 'free'}`]),
	...routes.filter((r) => r.fallback_model && !routes.some((other) => other.name === r.fallback_model)).map((r) => [r.fallback_model, `${r.fallback_model} – ${r.fallback_paid ? 'paid' : 'free'}, fallback of ${r.name}`]),
];

// second is what a route is best compared with: its own fallback, or the first paid route.
const second = (routes, model) => routes.find((r) => r.name === model)?.fallback_model || routes.find((r) => r.paid)?.name || routes.at(-1).name;

const routeOf = (routes, model) => routes.find((r) => r.name === model) ?? fallbackOf(routes, model);
function fallbackOf(routes, model) {
	const r = routes.find((one) => one.fallback_model === model);
	return r && {name: model, paid: r.fallback_paid, local: false, fallback: '', price_in: r.price_in, price_out: r.price_out};
}
const isPaid = (routes, model) => Boolean(routeOf(routes, model)?.paid);

// price says what a call costs, before it is sent.
function price(routes, model) {
	const r = routeOf(routes, model);
	if (!r) return '';
	const rate = r.price_in === null || r.price_out === null ? 'at a price that llmsup does not know' : `${usd(r.price_in)} for a million prompt tokens, ${usd(r.price_out)} for a million generated`;
	if (r.paid) return `${model} costs money: ${rate}.`;
	if (r.fallback_paid) return `${model} is free on the GPU. If the GPU cannot answer, the call goes to ${r.fallback}, which costs money: ${rate}.`;
	return `${model} is free.`;
}

function shown(c, routes) {
	const a = c.answer;
	if (!a) return h('p', {class: 'muted'}, `The answer of ${c.model} appears here.`);
	const fact = (name, text) => h('div', {key: name}, h('dt', {}, name), h('dd', {}, text));
	return [
		h('h2', {}, a.body.model, h('span', {class: 'muted'}, a.backend ? ` answered by ${a.backend}` : a.done ? '' : ' …'), a.reason ? h('span', {class: 'reason'}, ` because of ${a.reason}`) : null),
		h('div', {class: 'answer', 'aria-live': 'polite', 'aria-busy': a.done ? 'false' : 'true'}, a.reasoning && h('details', {class: 'inline'}, h('summary', {}, 'Reasoning'), h('p', {class: 'muted pre'}, a.reasoning)), h('p', {class: 'pre'}, a.text || (a.done ? '' : 'Waiting for the first token ...'))),
		a.problem && h('p', {class: 'problem', role: 'alert'}, a.status >= 400 ? `Status ${a.status}: ` : '', a.problem),
		h('dl', {class: 'pairs compact'},
			fact('First token', a.firstAt === null ? value(a.done ? unknown : '…') : milliseconds(a.firstAt - a.sentAt)),
			fact('Tokens per second', value(speed(a) === null ? unknown : number(speed(a), speed(a) < 10 ? 1 : 0))),
			fact('Tokens', a.usage ? `${count(a.usage.prompt_tokens)} → ${count(a.usage.completion_tokens)}` : value(unknown)),
			fact('Duration', a.endedAt === null ? '…' : milliseconds(a.endedAt - a.sentAt)),
			fact('Cost', cost(a, routes))),
		h('details', {class: 'inline'}, h('summary', {}, 'Request'), h('pre', {tabindex: 0}, 'POST /v1/chat/completions\n\n' + JSON.stringify(a.body, null, 2))),
		a.headers && h('details', {class: 'inline'}, h('summary', {}, 'Headers of the answer'), h('pre', {tabindex: 0}, `${a.status}\n${a.headers}`)),
	];
}

function cost(a, routes) {
	const r = routeOf(routes, a.body.model);
	const c = costOf(a, r);
	if (c === null) return value(unknown);
	return c.exact ? usd(c.amount) : `about ${estimate(c.amount)}`;
}
