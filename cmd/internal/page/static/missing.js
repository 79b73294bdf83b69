// The view of an address that the page does not have.

import {h} from './dom.js';
import {empty} from './parts.js';

export const title = 'Not found';

export const create = () => ({
	draw: () => [h('h1', {}, 'Not found'), empty('This page does not exist.', h('p', {}, h('a', {href: '/ui/now'}, 'Go to Now')))],
});
