// Whether a model fits the GPUs: now, once VRAM is free, or never.

import {bytes} from './format.js';

/**
 * fit returns where a model fits, as {state, text}; null = unknown. placements is where it can be: lists of {gpu, need_bytes}, those on
 * one GPU first. state is ready (it fits now), starting (it does once others leave), or failed (never).
 */
export function fit(placements, gpus) {
	const all = (placements ?? []).map((p) => p.map((on) => ({need: on.need_bytes, gpu: gpus?.find((g) => g.index === on.gpu)})));
	const known = ({need, gpu}) => need !== null && need !== undefined && gpu && gpu.memory_total_bytes !== null && gpu.memory_free_bytes !== null;
	if (all.length === 0 || all.some((p) => p.length === 0 || !p.every(known))) return null;
	const free = least(all, 'memory_free_bytes');
	if (free.missing === 0) return {state: 'ready', text: `fits ${names(free.placement)}${free.placement.length > 1 ? ' split' : ''}`};
	const total = least(all, 'memory_total_bytes');
	if (total.missing === 0) return {state: 'starting', text: `needs ${bytes(free.missing)} more than ${names(free.placement)} ${has(free.placement)} free`};
	return {state: 'failed', text: `needs ${bytes(total.missing)} more than ${names(total.placement)} ${has(total.placement)}`};
}

// least returns the placement that lacks the least of a kind of memory, and how much, in bytes.
function least(all, kind) {
	return all.map((placement) => ({placement, missing: placement.reduce((sum, {need, gpu}) => sum + Math.max(0, need - gpu[kind]), 0)})).reduce((a, b) => (b.missing < a.missing ? b : a));
}

const names = (placement) => 'GPU ' + placement.map(({gpu}) => gpu.index).join('+');
const has = (placement) => (placement.length > 1 ? 'have' : 'has');
