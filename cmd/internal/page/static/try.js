import {h} from './dom.js';
export const title = 'Try';
export const create = () => ({draw: () => h('h1', {}, title)});
