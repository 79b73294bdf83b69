import {h} from './dom.js';
export const title = 'Logs';
export const create = () => ({draw: () => h('h1', {}, title)});
