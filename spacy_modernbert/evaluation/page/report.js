"use strict";
// To a browser that runs scripts, what a `noscript` holds is text: documents are parsed and
// laid out only when they are opened.
(() => {
  const FIRST = 25; // rows of the list that are shown at once
  const CORRECT = "k0";
  const $ = (id) => document.getElementById(id);
  const pairs = JSON.parse($("pairs").textContent);
  const docs = [...document.querySelectorAll(".doc")];
  const filter = $("filter");
  let showAll = false;

  const chosen = (name) =>
    new Set([...filter.querySelectorAll(`[name=${name}]:checked`)].map((box) => box.value));

  function makeTest() {
    const kinds = chosen("kind");
    const labels = chosen("label");
    return ([kind, gold, found]) => kinds.has(kind) && (labels.has(gold) || labels.has(found));
  }

  const isOpened = (doc) => !doc.querySelector(".text > noscript");

  function open(doc) {
    const text = doc.querySelector(".text");
    if (isOpened(doc)) return;
    text.innerHTML = text.textContent;
    mark(doc, makeTest());
  }

  function mark(doc, test) {
    for (const each of doc.querySelectorAll("mark.e")) {
      const matches = JSON.parse(each.dataset.m);
      const tags = each.querySelectorAll(".t");
      const shown = matches.map(test);
      shown.forEach((is, i) => tags[i].classList.toggle("off", !is));
      each.classList.toggle("off", !shown.includes(true));
      each.classList.toggle("error", matches.some((match, i) => shown[i] && match[0] !== CORRECT));
    }
  }

  function countErrors(doc, test) {
    return pairs[doc.dataset.index].filter((pair) => pair[0] !== CORRECT && test(pair)).length;
  }

  // Where there is nothing to find, and nothing was found, nothing is wrong.
  function scoreOf(doc) {
    return doc.dataset.f === "" ? Infinity : Number(doc.dataset.f);
  }

  const orders = {
    given: (a, b) => a.dataset.index - b.dataset.index,
    worst: (a, b) => scoreOf(a) - scoreOf(b),
    errors: (a, b) => b.dataset.errors - a.dataset.errors,
    longest: (a, b) => b.dataset.tokens - a.dataset.tokens,
  };

  function update() {
    const test = makeTest();
    // A document without entities has none of any kind or label.
    const isEverything = !filter.querySelector("input:not(:checked)");
    let n = 0;
    for (const doc of docs) {
      const errors = countErrors(doc, test);
      doc.dataset.errors = errors;
      doc.querySelector(".count").textContent = errors === 1 ? "1 error" : `${errors} errors`;
      const found = pairs[doc.dataset.index];
      doc.dataset.fits = found.some(test) || (!found.length && isEverything) ? "1" : "";
      if (isOpened(doc)) mark(doc, test);
    }
    docs.sort((a, b) => orders[$("order").value](a, b) || orders.given(a, b));
    for (const doc of docs) {
      const fits = doc.dataset.fits === "1";
      doc.hidden = !fits || (!showAll && n >= FIRST);
      if (fits) n += 1;
      $("list").append(doc);
    }
    $("all").hidden = showAll || n <= FIRST;
    $("all").textContent = `Show all ${n} documents`;
    const errors = docs.reduce((sum, doc) => sum + Number(doc.dataset.errors), 0);
    $("shown").textContent = `${n} of ${docs.length} documents, ${errors.toLocaleString("en")} errors.`;
  }

  let current = null;

  // Steps from where the reader is: from the entity visited last, even if a filter has
  // turned it off since, or from the document whose row was used last.
  function step(forward) {
    const order = docs.filter((doc) => doc.dataset.fits && Number(doc.dataset.errors));
    if (!order.length) return;
    const ahead = (each) => current && current.compareDocumentPosition(each) &
      (forward ? Node.DOCUMENT_POSITION_FOLLOWING : Node.DOCUMENT_POSITION_PRECEDING);
    const nearest = (found) => found.at(forward ? 0 : -1);
    const here = current && current.closest(".doc");
    if (order.includes(here) && here.open) {
      const next = nearest(errorsOf(here).filter(ahead));
      if (next) return go(next);
    }
    const others = order.filter((doc) => doc !== here);
    const doc = nearest(others.filter(ahead)) || nearest(order);
    if (doc.hidden) { showAll = true; update(); }
    doc.open = true;
    open(doc);
    go(nearest(errorsOf(doc)));
  }

  function errorsOf(doc) {
    return [...doc.querySelectorAll("mark.error")];
  }

  function go(each) {
    current = each;
    each.focus({ preventScroll: true });
    each.scrollIntoView({ block: "center" });
  }

  // The keys do nothing while the focus is elsewhere on the page; in a select, a letter
  // chooses an option.
  function isForSteps(target) {
    return target === document.body || (target.closest("#documents") && !target.closest("select"));
  }

  $("list").addEventListener("focusin", (event) => {
    current = event.target.closest("mark.e") || event.target.closest(".doc");
  });
  for (const doc of docs) doc.addEventListener("toggle", () => doc.open && open(doc));
  filter.addEventListener("change", update);
  filter.addEventListener("submit", (event) => event.preventDefault());
  $("all").addEventListener("click", () => {
    showAll = true;
    update();
    // The button is gone: the reader is at the first of those that came in its place.
    docs.filter((doc) => !doc.hidden)[FIRST].querySelector("summary").focus({ preventScroll: true });
  });
  $("next").addEventListener("click", () => step(true));
  $("previous").addEventListener("click", () => step(false));
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || !isForSteps(event.target)) return;
    if (event.key === "n") step(true);
    if (event.key === "p") step(false);
  });

  for (const each of [filter, ...document.querySelectorAll(".scripted")]) each.hidden = false;
  update();
  const first = docs.find((doc) => !doc.hidden);
  if (first) { first.open = true; open(first); }
})();
