import {h} from './dom.js';
export const title = 'Models';
export const create = () => ({draw: () => h('h1', {}, title)});
