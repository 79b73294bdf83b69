import {h} from './dom.js';
export const title = 'Calls';
export const create = () => ({draw: () => h('h1', {}, title)});
