"use strict";
// Decisions on the images of one set: kept in the browser under the set's version, downloaded as CSV.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const images = data.images;
  const $ = (id) => document.getElementById(id);
  const WHO = "partsynth-review:reviewer";
  const WORDS = { accept: "accept", drop: "drop", other_class: "other class", unsure: "unsure" };
  const UNDONE = 500; // steps that can be taken back
  const CELL = 65; // pixels of a small image in the strip, its gap with it

  // --- state ------------------------------------------------------------------------------------------------------
  const state = { decisions: {}, steps: [], downloaded: 0 };
  let list = []; // positions in images, as filtered and ordered
  let at = 0; // place in list
  let storage = null;
  try {
    storage = window.localStorage;
    Object.assign(state, JSON.parse(storage.getItem(data.key) || "{}"));
    $("reviewer").value = storage.getItem(WHO) || "";
  } catch (error) {
    storage = null;
  }

  function alarm(text) {
    $("alarm").textContent = text;
    $("alarm").hidden = !text;
  }

  function save() {
    try {
      storage.setItem(data.key, JSON.stringify(state));
    } catch (error) {
      alarm("This browser does not keep decisions (private window, or its storage is full): download them before you close the page.");
    }
  }

  const current = () => (list.length ? images[list[at]] : null);
  const mine = (image) => state.decisions[image.path];
  const decisionOf = (image) => mine(image) || image.earlier;

  // --- filters ----------------------------------------------------------------------------------------------------
  function fill(select, values) {
    for (const value of values) select.append(new Option(value, value));
  }
  fill($("f-class"), [...new Set(images.map((i) => i.class_name))].sort());
  fill($("f-reason"), [...new Set(images.flatMap((i) => i.reasons))].sort());

  function fits(image) {
    const decision = decisionOf(image);
    const wanted = $("f-decision").value;
    if (wanted === "none" && decision) return false;
    if (wanted === "any" && !decision) return false;
    if (wanted in WORDS && (!decision || decision.decision !== wanted)) return false;
    const verdict = $("f-verdict").value;
    if (verdict && (verdict === "flagged") !== image.reasons.length > 0) return false;
    if ($("f-reason").value && !image.reasons.includes($("f-reason").value)) return false;
    if ($("f-class").value && image.class_name !== $("f-class").value) return false;
    return image.percentile >= Number($("f-low").value || 0) && image.percentile <= Number($("f-high").value || 1);
  }

  const byText = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
  const ORDERS = {
    class: (a, b) => byText(a.class_name, b.class_name) || b.percentile - a.percentile || b.drift - a.drift,
    far: (a, b) => b.percentile - a.percentile || b.drift - a.drift,
    near: (a, b) => a.percentile - b.percentile || a.drift - b.drift,
    mixed: (a, b) => byText(a.sha256, b.sha256),
  };

  function filter() {
    const before = current();
    const order = ORDERS[$("f-order").value];
    list = [...images.keys()].filter((i) => fits(images[i]));
    list.sort((a, b) => order(images[a], images[b]) || byText(images[a].path, images[b].path));
    at = Math.max(0, before ? list.findIndex((i) => images[i] === before) : 0);
    show();
  }

  // --- what is shown ----------------------------------------------------------------------------------------------
  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name in made) made[name] = value;
      else made.setAttribute(name, value);
    }
    made.append(...children.filter((child) => child !== null));
    return made;
  }

  function picture(file, alt, title) {
    const image = element("img", { alt, title, src: `images/${file}`, decoding: "async" });
    image.addEventListener("load", () => image.classList.toggle("pixels", image.naturalWidth < 160));
    return image;
  }

  function group(title, size, cells) {
    const figures = cells.map(([file, caption, path]) =>
      element("figure", {}, picture(file, caption || title, path), caption ? element("figcaption", {}, caption) : null),
    );
    return element("div", { className: size }, element("h3", {}, title), element("div", { className: "row" }, ...figures));
  }

  function chip(kind, text) {
    return element("span", { className: `chip ${kind}` }, text);
  }

  function show() {
    const image = current();
    $("count").textContent = `${list.length} of ${images.length} images`;
    $("stage").replaceChildren();
    $("facts").replaceChildren();
    $("name").textContent = image ? image.class_name : "";
    $("caption").textContent = image ? image.caption : "";
    $("place").textContent = image ? `${at + 1} / ${list.length}` : "";
    if (image) stage(image);
    else $("stage").append(element("p", { className: "empty" }, images.length ? "No image passes these filters." : "This set has no images to review."));
    strip();
    totals();
  }

  function stage(image) {
    const real = (places) => places.map((i) => [data.real[i].file, data.real[i].class_name, data.real[i].path]);
    const source = image.source === null ? null : data.real[image.source];
    const near = element("div", { className: "near" });
    if (image.own.length) near.append(group(`Nearest real images of ${image.class_name}`, "small", real(image.own)));
    if (image.others.length) near.append(group("Nearest real images of other classes", "small", real(image.others)));
    $("stage").append(
      group("Generated", "large", [[image.file, "", image.path]]),
      ...(source ? [group("Its source", "middle", [[source.file, "", source.path]])] : []),
      near,
    );
    const facts = [];
    if (!$("blind").checked) {
      const flagged = image.reasons.length > 0;
      facts.push(chip(flagged ? "drop" : "accept", flagged ? `gate: ${image.reasons.join(", ").replaceAll("_", " ")}` : "gate: accepted"));
      facts.push(element("span", {}, "percentile ", element("b", {}, image.percentile.toFixed(3))));
      facts.push(element("span", {}, "drift ", element("b", {}, image.drift.toFixed(2))));
      facts.push(element("span", {}, "nearest class ", element("b", {}, image.nearest_class)));
    }
    const decision = decisionOf(image);
    if (decision) facts.push(chip(decision.decision, `${decision.reviewer}: ${WORDS[decision.decision]}${decision.other_class ? `, ${decision.other_class}` : ""}${mine(image) ? "" : " (applied)"}`));
    $("facts").append(...facts);
    $("reason").value = mine(image) ? mine(image).reason : "";
    for (const name of Object.keys(WORDS)) $(name).classList.toggle("on", Boolean(decision) && decision.decision === name);
    for (const step of [1, 2]) if (list[at + step] !== undefined) new Image().src = `images/${images[list[at + step]].file}`;
  }

  function strip() {
    const fit = Math.max(1, Math.floor($("strip").clientWidth / CELL));
    const first = Math.max(0, Math.min(at - Math.floor(fit / 2), list.length - fit));
    const cells = list.slice(first, first + fit).map((position, i) => {
      const image = images[position], decision = decisionOf(image);
      const cell = element("button", { type: "button", title: image.path, tabIndex: -1 }, element("img", { src: `images/${image.file}`, alt: image.class_name, decoding: "async" }));
      cell.setAttribute("aria-current", String(first + i === at));
      cell.addEventListener("click", () => go(first + i));
      return element("li", { className: decision ? decision.decision : "" }, cell);
    });
    $("strip").replaceChildren(...cells);
  }

  function totals() {
    const counts = { accept: 0, drop: 0, other_class: 0, unsure: 0 };
    let decided = 0;
    for (const image of images) {
      const decision = decisionOf(image);
      if (decision) counts[decision.decision] += 1, decided += 1;
    }
    const own = Object.keys(state.decisions).length, fresh = own - state.downloaded;
    const parts = Object.entries(counts).filter(([, n]) => n).map(([name, n]) => `${n} ${WORDS[name]}`);
    $("progress").textContent = `${decided} of ${images.length} decided${parts.length ? `: ${parts.join(", ")}` : ""}${own && fresh ? `; not downloaded yet` : ""}`;
    $("done").style.width = `${images.length ? (100 * decided) / images.length : 0}%`;
    $("undo").disabled = !state.steps.length;
    $("download").disabled = !own;
    const reasons = [...new Set(Object.values(state.decisions).map((d) => d.reason).filter(Boolean))].sort();
    if (reasons.length !== $("reasons").children.length) $("reasons").replaceChildren(...reasons.map((value) => new Option(value, value)));
  }

  // --- steps ------------------------------------------------------------------------------------------------------
  function go(place) {
    at = Math.max(0, Math.min(place, list.length - 1));
    show();
  }

  function nextUndecided() {
    for (let step = 1; step < list.length; step += 1) {
      const place = (at + step) % list.length;
      if (!decisionOf(images[list[place]])) return go(place);
    }
    return show();
  }

  function change(image, decision) {
    state.steps.push([image.path, mine(image) || null]);
    if (state.steps.length > UNDONE) state.steps.shift();
    if (decision) state.decisions[image.path] = decision;
    else delete state.decisions[image.path];
    state.downloaded = -1;
    save();
  }

  function decide(name, other = "") {
    const image = current(), who = $("reviewer").value.trim();
    if (!image) return;
    if (!who) {
      alarm("Who decides? A decision is kept with its reviewer's name.");
      $("reviewer").classList.add("wanted");
      $("reviewer").focus();
      return;
    }
    alarm("");
    const time = new Date().toISOString().replace(/\.\d+Z$/, "Z");
    change(image, { decision: name, other_class: other, reviewer: who, time, reason: $("reason").value.trim() });
    $("reason").blur();
    nextUndecided();
  }

  function undo() {
    const step = state.steps.pop();
    if (!step) return;
    const [path, before] = step;
    if (before) state.decisions[path] = before;
    else delete state.decisions[path];
    state.downloaded = -1;
    save();
    const place = list.findIndex((i) => images[i].path === path);
    if (place >= 0) at = place;
    show();
  }

  function clear() {
    const image = current();
    if (!image || !mine(image)) return;
    change(image, null);
    show();
  }

  // --- another class ----------------------------------------------------------------------------------------------
  function ask() {
    const image = current();
    if (!image) return;
    const near = [image.nearest_class, ...image.others.map((i) => data.real[i].class_name)];
    const names = [...new Set([...near, ...data.classes])].filter((name) => name && name !== image.class_name && data.classes.includes(name));
    const choices = [...names.map((name, i) => [name, name, i < 9 ? String(i + 1) : ""]), ["", "none of these", "0"]];
    $("choices").replaceChildren(
      ...choices.map(([value, text, key]) => {
        const button = element("button", { type: "button" }, key ? element("kbd", {}, key) : null, text);
        button.dataset.key = key;
        button.addEventListener("click", () => {
          $("classes").close();
          decide("other_class", value);
        });
        return element("li", {}, button);
      }),
    );
    $("classes").showModal();
    $("choices").querySelector("button").focus();
  }

  $("classes").addEventListener("keydown", (event) => {
    const buttons = [...$("choices").querySelectorAll("button")];
    const chosen = buttons.find((button) => button.dataset.key && button.dataset.key === event.key);
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (chosen) chosen.click();
    else if (step) buttons[(buttons.indexOf(document.activeElement) + step + buttons.length) % buttons.length].focus();
    else return;
    event.preventDefault();
  });

  // --- the file ---------------------------------------------------------------------------------------------------
  const quoted = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);

  function csv() {
    const rows = images
      .filter((image) => mine(image))
      .map((image) => ({ ...mine(image), path: image.path, sha256: image.sha256, class_name: image.class_name }))
      .sort((a, b) => byText(a.path, b.path));
    return [data.columns, ...rows.map((row) => data.columns.map((name) => row[name] || ""))]
      .map((cells) => `${cells.map(quoted).join(",")}\n`)
      .join("");
  }

  function download() {
    const who = $("reviewer").value.trim().replace(/[^\p{L}\p{N}]+/gu, "-") || "nobody";
    const link = element("a", { href: URL.createObjectURL(new Blob([csv()], { type: "text/csv" })) });
    link.download = `review-${data.set}-${who}-${data.version}.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    state.downloaded = Object.keys(state.decisions).length;
    save();
    totals();
  }

  // --- hands ------------------------------------------------------------------------------------------------------
  for (const id of ["f-decision", "f-verdict", "f-reason", "f-class", "f-low", "f-high", "f-order"])
    $(id).addEventListener("change", () => {
      $(id).blur(); // the next key is about the image: a focused list would take A for its own choice "accept"
      filter();
    });
  $("blind").addEventListener("change", show);
  $("reset").addEventListener("click", () => {
    for (const id of ["f-decision", "f-verdict", "f-reason", "f-class"]) $(id).value = "";
    $("f-low").value = 0;
    $("f-high").value = 1;
    filter();
  });
  $("reviewer").addEventListener("input", () => {
    $("reviewer").classList.remove("wanted");
    alarm("");
    try {
      storage.setItem(WHO, $("reviewer").value);
    } catch (error) {
      // told of when a decision cannot be kept
    }
  });
  for (const name of ["accept", "drop", "unsure"]) $(name).addEventListener("click", () => decide(name));
  $("other_class").addEventListener("click", ask);
  $("undo").addEventListener("click", undo);
  $("clear").addEventListener("click", clear);
  $("back").addEventListener("click", () => go(at - 1));
  $("next").addEventListener("click", () => go(at + 1));
  $("download").addEventListener("click", download);
  window.addEventListener("resize", strip);
  $("help").addEventListener("click", () => $("keys").showModal());

  const KEYS = {
    a: () => decide("accept"),
    d: () => decide("drop"),
    o: ask,
    u: () => decide("unsure"),
    z: undo,
    n: nextUndecided,
    r: () => $("reason").focus(),
    "?": () => $("keys").showModal(),
    Backspace: clear,
    ArrowLeft: () => go(at - 1),
    ArrowRight: () => go(at + 1),
    Home: () => go(0),
    End: () => go(list.length - 1),
  };
  document.addEventListener("keydown", (event) => {
    if ($("classes").open || $("keys").open || event.altKey) return;
    const typing = (event.target instanceof HTMLInputElement && event.target.type !== "checkbox") || event.target instanceof HTMLSelectElement;
    if (typing) {
      if (event.key === "Enter" || event.key === "Escape") event.target.blur();
      return;
    }
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if ((event.ctrlKey || event.metaKey) && key !== "z") return;
    if (KEYS[key]) {
      event.preventDefault();
      KEYS[key]();
    }
  });

  if (!storage) alarm("This browser keeps nothing for pages from files: download your decisions before you close the page.");
  filter();
  const open = list.findIndex((i) => !decisionOf(images[i]));
  if (open > 0) go(open);
})();
