// Periods of time as they are in addresses: 24h, 7d, or a time.

const hour = 3_600_000;

/** periods are the choices: value and text. */
export const periods = [['1h', 'last hour'], ['24h', 'last 24 hours'], ['7d', 'last 7 days'], ['30d', 'last 30 days'], ['365d', 'last year']];

/** sinceOf returns the start of a period as RFC 3339; a time is returned as it is. now is in milliseconds. */
export function sinceOf(period, now) {
	const m = /^(\d{1,5})([hd])$/.exec(period);
	return m ? new Date(now - Number(m[1]) * (m[2] === 'h' ? hour : 24 * hour)).toISOString() : period;
}

/** daysOf returns the UTC days of a period up to now, as YYYY-MM-DD, oldest first. */
export function daysOf(since, now) {
	const days = [];
	const end = new Date(now).toISOString().slice(0, 10);
	for (let at = Date.parse(since.slice(0, 10)); days.length < 400; at += 24 * hour) {
		const day = new Date(at).toISOString().slice(0, 10);
		if (day > end) break;
		days.push(day);
	}
	return days;
}
