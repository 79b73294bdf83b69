import {h} from './dom.js';
export const title = 'Call';
export const create = () => ({draw: () => h('h1', {}, title)});
