import {h} from './dom.js';
export const title = 'Money';
export const create = () => ({draw: () => h('h1', {}, title)});
