"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const all = (selector, from) => Array.from((from || document).querySelectorAll(selector));
  const status = document.getElementById("status");
  const say = (words) => { status.textContent = words; };

  // Theme: follows the system until someone chooses. A page opened from disk may have no storage.
  const remember = (value) => {
    try { localStorage.setItem("psc-theme", value); } catch { /* not kept, then */ }
  };
  const recall = () => { try { return localStorage.getItem("psc-theme"); } catch { return null; } };
  const button = document.getElementById("theme");
  const dark = () => root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  const label = () => { button.textContent = dark() ? "Light colours" : "Dark colours"; };
  const kept = recall();
  if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  label();
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    remember(root.dataset.theme);
    label();
  });

  // Sorting. Every cell has what to sort by, or is sorted by its words.
  // An unknown number sorts below zero.
  const key = (row, index) => {
    const cell = row.cells[index];
    if ("v" in cell.dataset) return Number(cell.dataset.v);
    return cell.classList.contains("num") ? -1 : cell.textContent.trim();
  };
  const compare = (a, b) => (typeof a === "number" && typeof b === "number"
    ? a - b
    : String(a).localeCompare(String(b), "en", { numeric: true }));
  for (const table of all("table.sortable")) {
    const heads = Array.from(table.tHead.rows[0].cells);
    heads.forEach((head, index) => {
      const sorter = document.createElement("button");
      sorter.type = "button";
      sorter.textContent = head.textContent;
      head.textContent = "";
      head.append(sorter);
      sorter.addEventListener("click", () => {
        const first = head.classList.contains("num") ? "descending" : "ascending";
        const other = first === "ascending" ? "descending" : "ascending";
        const order = head.getAttribute("aria-sort") === first ? other : first;
        heads.forEach((each) => each.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", order);
        const sign = order === "ascending" ? 1 : -1;
        const body = table.tBodies[0];
        const rows = Array.from(body.rows).map((row) => [key(row, index), row]);
        rows.sort((a, b) => sign * compare(a[0], b[0]));
        body.append(...rows.map((pair) => pair[1]));
        say(`sorted by ${sorter.textContent}, ${order}`);
      });
    });
  }

  // Rows are shown when they match their table's filter and the time range of the address.
  let range = null;
  const within = (row) => {
    if (!range || !row.dataset.t) return true;
    const [from, to] = row.dataset.t.split(" ").map(Number);
    return to >= range[0] && from <= range[1];
  };
  const filters = new Map();
  const apply = (table) => {
    const words = (filters.get(table)?.value || "").toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    const rows = Array.from(table.tBodies[0].rows);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !(within(row) && words.every((word) => text.includes(word)));
      shown += row.hidden ? 0 : 1;
    }
    const count = document.getElementById(`${table.id}-count`);
    if (count) count.textContent = shown === rows.length ? "" : `${shown} of ${rows.length} rows`;
  };
  for (const input of all("input[data-table]")) {
    const table = document.getElementById(input.dataset.table);
    filters.set(table, input);
    input.addEventListener("input", () => apply(table));
  }
  const banner = document.getElementById("range");
  const setRange = (next) => {
    range = next;
    banner.hidden = !next;
    if (next) {
      const seconds = (us) => `${us / 1e6} s`;
      banner.firstElementChild.textContent =
        `Only what happened from ${seconds(next[0])} to ${seconds(next[1])} after the start.`;
    }
    all("table").filter((table) => table.id).forEach(apply);
    for (const block of all("[data-t]:not(tr)")) block.hidden = !within(block);
  };
  banner.querySelector("button").addEventListener("click", () => {
    setRange(null);
    history.replaceState(null, "", location.pathname + location.search);
  });

  // What is chosen of the path graph: a layer, a function, a flow, a drop reason, and the journeys behind all
  // of these together; the marks and arrows that they went through stay lit.
  const pickers = all("select[data-pick]");
  const unchoose = document.getElementById("unchoose");
  const behind = Array.from(document.getElementById("behind")?.tBodies[0].rows || []);
  const behindThat = () => {
    const wanted = pickers.filter((each) => each.value !== "");
    const has = (row, pick) => {
      const values = row.dataset[pick.dataset.pick];
      return pick.dataset.pick === "reason" ? values === pick.value : values.split(" ").includes(pick.value);
    };
    const lit = new Set();
    let shown = 0;
    for (const row of behind) {
      row.hidden = !wanted.every((pick) => has(row, pick));
      if (row.hidden) continue;
      shown += 1;
      row.dataset.node.split(" ").forEach((node) => lit.add(node));
    }
    const any = wanted.length > 0;
    const others = wanted.some((pick) => pick.dataset.pick !== "node");
    for (const mark of all("a.f-link")) mark.classList.toggle("off", others && !lit.has(mark.dataset.node));
    for (const edge of all(".f-edge")) {
      edge.classList.toggle("off", others && !(lit.has(edge.dataset.from) && lit.has(edge.dataset.to)));
    }
    if (!behind.length) return;
    unchoose.hidden = !any;
    document.getElementById("behind-fold").open = any;
    document.getElementById("behind-title").textContent = any
      ? `${shown} of the ${behind.length} journeys of this page are behind that choice`
      : `${behind.length} journeys of this page`;
    const exprs = wanted.map((pick) => pick.selectedOptions[0].dataset.expr).filter(Boolean);
    const rest = document.getElementById("behind-all");
    rest.hidden = !any || exprs.length < wanted.length;
    rest.querySelector("code").textContent =
      `psc trace ${document.body.dataset.source} -f '${exprs.join(" and ")}'`;
  };

  // The node chosen in the path graph: its card beside the figure, its edges lit.
  const panel = document.getElementById("node-panel");
  const edges = all(".f-edge");
  const links = all("a.f-link");
  const choose = (index) => {
    const pick = pickers.find((each) => each.dataset.pick === "node");
    if (pick && pick.value !== (index || "")) {
      pick.value = Array.from(pick.options).some((each) => each.value === index) ? index : "";
      behindThat();
    }
    const near = new Set([index]);
    for (const edge of edges) {
      const mine = edge.dataset.from === index || edge.dataset.to === index;
      edge.classList.toggle("off", index !== null && !mine);
      if (mine) { near.add(edge.dataset.from); near.add(edge.dataset.to); }
    }
    for (const link of links) {
      link.classList.toggle("on", link.dataset.node === index);
      link.classList.toggle("off", index !== null && !near.has(link.dataset.node));
    }
    const card = index === null ? null : document.getElementById(`node-${index}`);
    panel.hidden = !card;
    panel.replaceChildren();
    if (!card) return;
    const copy = card.cloneNode(true);
    copy.removeAttribute("id");
    const title = document.createElement("h3");
    title.textContent = card.parentElement.querySelector("summary").textContent;
    const close = document.createElement("button");
    close.type = "button";
    close.textContent = "Close";
    close.addEventListener("click", () => {
      choose(null);
      history.replaceState(null, "", "#path-graph");
      links.find((link) => link.dataset.node === index)?.focus();
    });
    panel.append(title, copy, close);
  };
  for (const link of links) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      const index = link.dataset.node;
      const again = link.classList.contains("on");
      choose(again ? null : index);
      history.replaceState(null, "", again ? "#path-graph" : `#node-${index}`);
      if (!again) say(`${panel.querySelector("h3").textContent}: details below the figure`);
    });
  }

  for (const pick of pickers) {
    pick.addEventListener("change", () => {
      if (pick.dataset.pick === "node") choose(pick.value || null);
      behindThat();
      say(document.getElementById("behind-title").textContent);
    });
  }
  unchoose?.addEventListener("click", () => {
    pickers.forEach((pick) => { pick.value = ""; });
    choose(null);
    behindThat();
  });

  // Addresses: #flow=3, #journey=12, #t=1.5..2, joined by &.
  const open = (id) => {
    const target = document.getElementById(id);
    if (!target) return false;
    for (let up = target; up; up = up.parentElement) {
      if (up.tagName === "DETAILS") up.open = true;
      up.hidden = false;
    }
    all(".found").forEach((each) => each.classList.remove("found"));
    if (target.matches("tr,.finding,.journey,.inside")) target.classList.add("found");
    target.scrollIntoView();
    return true;
  };
  const command = document.body.dataset.source;
  const follow = () => {
    const hash = location.hash.slice(1);
    let wanted = null;
    let next = null;
    for (const part of hash.split("&")) {
      const time = /^t=(\d+(?:\.\d+)?)\.\.(\d+(?:\.\d+)?)$/.exec(part);
      if (time) next = [Number(time[1]) * 1e6, Number(time[2]) * 1e6];
      else if (part) wanted = part;
    }
    if (next || range) setRange(next);
    if (!wanted) return;
    const node = /^node-(\d+)$/.exec(wanted);
    if (node) {
      choose(node[1]);
      document.getElementById("path-graph")?.scrollIntoView();
      return;
    }
    if (open(wanted)) return;
    const missing = /^(flow|journey)=(\d+)$/.exec(wanted);
    if (missing) {
      const verb = missing[1] === "flow" ? "analyze" : "trace";
      banner.hidden = false;
      banner.firstElementChild.textContent =
        `This report does not hold ${missing[1]} ${missing[2]}. Rerun psc ${verb} ${command}.`;
    }
  };
  addEventListener("hashchange", follow);
  follow();

  // Where the reader is.
  const toc = new Map(all("nav.toc a").map((link) => [link.hash.slice(1), link]));
  if ("IntersectionObserver" in window) {
    const watch = new IntersectionObserver((seen) => {
      for (const entry of seen) {
        if (!entry.isIntersecting) continue;
        toc.forEach((link) => link.removeAttribute("aria-current"));
        toc.get(entry.target.id)?.setAttribute("aria-current", "true");
      }
    }, { rootMargin: "-10% 0px -80% 0px" });
    all("main > section").forEach((section) => watch.observe(section));
  }
})();
