'use strict';
(() => {
	const $ = (id) => document.getElementById(id);
	const all = (selector, from = document) => [...from.querySelectorAll(selector)];
	const root = document.documentElement;

	// The theme: as the system has it, until somebody chooses.
	const systemDark = matchMedia('(prefers-color-scheme: dark)');
	const remembered = () => { try { return localStorage.getItem('kith-theme'); } catch { return null; } };
	const remember = (v) => { try { localStorage.setItem('kith-theme', v); } catch { /* a file may have no memory */ } };
	const isDark = () => (root.dataset.theme || (systemDark.matches ? 'dark' : 'light')) === 'dark';
	const button = $('theme');
	const label = () => { button.textContent = isDark() ? 'Light' : 'Dark'; };
	const chosen = remembered();
	if (chosen === 'light' || chosen === 'dark') root.dataset.theme = chosen;
	button.hidden = false;
	button.addEventListener('click', () => {
		root.dataset.theme = isDark() ? 'light' : 'dark';
		remember(root.dataset.theme);
		label();
	});
	systemDark.addEventListener('change', label);
	label();

	// Copying the command.
	const copy = $('copy');
	if (copy && navigator.clipboard) {
		copy.hidden = false;
		copy.addEventListener('click', async () => {
			try {
				await navigator.clipboard.writeText($('command').textContent);
				copy.textContent = 'Copied';
			} catch {
				getSelection().selectAllChildren($('command'));
			}
		});
	}

	// A moment: the margins tell what the charts show there.
	const data = JSON.parse($('data').textContent);
	const charts = $('time');
	const slider = $('cursor');
	const now = $('now');
	const number = (n) => n.toLocaleString('en-US');
	const short = (f) => String(+f.toPrecision(3));
	const span = (s) => {
		const a = Math.abs(s);
		if (a === 0) return '0 s';
		if (a < 1e-3) return short(s * 1e6) + ' µs';
		if (a < 1) return short(s * 1e3) + ' ms';
		if (a < 120) return short(s) + ' s';
		if (a < 7200) return short(s / 60) + ' min';
		return short(s / 3600) + ' h';
	};
	const moment = (s) => {
		if (data.length < 120) return s.toFixed(data.length < 10 ? 2 : 1) + ' s';
		return Math.floor(s / 60) + ':' + String(Math.floor(s % 60)).padStart(2, '0');
	};
	const tell = {
		rate: ([done, refused, unknown]) => {
			if (done + refused + unknown === 0) return 'nothing asked';
			const parts = [];
			if (done) parts.push(number(done) + ' done');
			if (refused) parts.push(number(refused) + ' refused');
			if (unknown) parts.push(number(unknown) + ' unknown');
			return parts.join(', ');
		},
		stale: ([stale, reads, middle, worst]) => stale
			? number(stale) + ' of ' + number(reads) + ' stale, worst ' + span(worst)
			: number(reads) + (reads === 1 ? ' read, not stale' : ' reads, none stale'),
		took: ([n, middle, worst]) => n ? 'median ' + span(middle) + ', slowest ' + span(worst) : 'nothing done',
		differ: ([differ, keys]) => number(differ) + ' of ' + number(keys) + ' differ',
	};
	const sums = all('.sum[data-sum]', charts);
	const laneSums = sums.filter((s) => s.closest('.lane'));
	const rowSums = sums.filter((s) => s.dataset.row !== undefined);
	const tellNode = (i, at) => {
		const node = data.nodes[i];
		const state = node.state[at] || 'up';
		const words = [state];
		if (state !== 'down' && state !== 'paused') words.push('sees ' + node.sees[at] + ' of ' + (data.nodes.length - 1));
		if (node.clock && node.clock[at]) words.push('clock ' + (node.clock[at] > 0 ? '+' : '') + span(node.clock[at]));
		return words.join(', ');
	};
	const sampleAt = (t) => {
		let low = 0, high = data.at.length - 1;
		while (low < high) {
			const middle = (low + high + 1) >> 1;
			if (data.at[middle] <= t) low = middle; else high = middle - 1;
		}
		return low;
	};
	const read = (share) => {
		share = Math.min(Math.max(share, 0), 1);
		const t = share * data.length;
		const bucket = Math.min(Math.floor(t / data.step), data.n - 1);
		charts.classList.add('reading');
		root.style.setProperty('--cursor', share * 100 + '%');
		now.textContent = moment(t);
		slider.value = Math.round(share * 1000);
		slider.setAttribute('aria-valuetext', moment(t));
		for (const s of rowSums) {
			const row = data.rows[s.dataset.row];
			s.textContent = tell[row.kind](row.v[bucket] || []);
		}
		if (data.at.length) laneSums.forEach((s, i) => { s.textContent = tellNode(i, sampleAt(t)); });
	};
	const rest = () => {
		charts.classList.remove('reading');
		now.textContent = '';
		for (const s of sums) s.textContent = s.dataset.sum;
	};
	slider.hidden = false;
	slider.addEventListener('input', () => read(slider.value / 1000));
	slider.addEventListener('focus', () => read(slider.value / 1000));
	const plot = charts.querySelector('.ticks');
	const share = (e) => {
		const box = plot.getBoundingClientRect();
		return (e.clientX - box.left) / box.width;
	};
	charts.addEventListener('pointermove', (e) => {
		if (!e.target.closest('.plot, .ticks, .lanes')) return;
		const at = share(e);
		if (at >= -0.01 && at <= 1.01) read(at);
	});
	charts.addEventListener('pointerdown', (e) => { if (e.target.closest('.plot, .lanes')) read(share(e)); });
	charts.addEventListener('pointerleave', (e) => { if (e.pointerType === 'mouse') rest(); });

	// What a sign means: on hover, on focus, on a tap.
	const tip = $('tip');
	let pinned = null, shown = null;
	const show = (el) => {
		shown = el;
		tip.textContent = el.dataset.tip;
		tip.hidden = false;
		const box = el.getBoundingClientRect(), size = tip.getBoundingClientRect();
		const below = box.bottom + 6 + size.height < innerHeight;
		tip.style.left = Math.min(Math.max(box.left + box.width / 2 - size.width / 2, 8), Math.max(innerWidth - size.width - 8, 8)) + 'px';
		tip.style.top = (below ? box.bottom + 6 : Math.max(box.top - size.height - 6, 4)) + 'px';
	};
	const hide = () => { pinned = shown = null; tip.hidden = true; };
	for (const el of all('[data-tip]')) {
		el.addEventListener('pointerenter', () => show(el));
		el.addEventListener('pointerleave', () => { if (pinned !== el) hide(); });
		el.addEventListener('focus', () => { if (!el.matches(':hover')) show(el); });
		el.addEventListener('blur', hide);
		el.addEventListener('click', (e) => {
			// The first click tells, the next one goes to the list.
			if (pinned === el) { hide(); return; }
			e.preventDefault();
			pinned = el;
			show(el);
		});
	}
	// What has the focus may have been scrolled to for that.
	addEventListener('scroll', () => { if (shown && shown === document.activeElement) show(shown); else hide(); }, { passive: true });
	addEventListener('keydown', (e) => { if (e.key === 'Escape') { hide(); rest(); } });

	// Paper shows everything.
	addEventListener('beforeprint', () => { rest(); for (const d of all('details')) d.open = true; });
})();
