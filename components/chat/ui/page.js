// Runs in the browser: follows answers, keeps what is typed, and leaves an input method's keys alone.
() => {
  const streams = {};
  const snapshots = {};
  const draft = JSON.parse(sessionStorage.getItem("lorry-draft") || "{}");
  const DISCONNECTED = "⚠ The connection to the page is cut; trying again…";

  const box = () => document.querySelector("#question textarea");
  const save = (changes) => sessionStorage.setItem("lorry-draft", JSON.stringify(Object.assign(draft, changes)));

  // Gradio notices a new value of an input only as if somebody had typed it.
  const put = (input, value) => {
    if (!input) return;
    Object.getOwnPropertyDescriptor(Object.getPrototypeOf(input), "value").set.call(input, value);
    input.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const press = (id) => document.getElementById(id)?.click();
  const draw = (kind, snapshot) => {
    snapshots[kind] = snapshot;
    press(`draw-${kind}`);
  };

  const unfollow = (kind) => {
    streams[kind]?.source?.close();
    clearInterval(streams[kind]?.watch);
    delete streams[kind];
  };
  // A stream that broke is opened again and begins with a whole snapshot. Each snapshot is the last one with a delta.
  // After sleep, a phone may not notice that its stream broke.
  const follow = (kind, id) => {
    if (streams[kind]?.id === id) return;
    unfollow(kind);
    const stream = { id, snapshot: {}, heard: Date.now() };
    streams[kind] = stream;
    stream.open = () => {
      stream.source?.close();
      const source = new EventSource(new URL(`${kind}/${id}`, document.baseURI));
      stream.source = source;
      source.onmessage = (event) => {
        const { appended, ...changed } = JSON.parse(event.data);
        stream.heard = Date.now();
        stream.snapshot = { ...stream.snapshot, ...changed, id };
        for (const [key, rest] of Object.entries(appended || {})) stream.snapshot[key] += rest;
        if (changed.done) unfollow(kind);
        draw(kind, stream.snapshot);
        if (changed.relist) press("relist");
      };
      source.addEventListener("gone", () => {
        unfollow(kind);
        if (kind === "answers") press("reopen");
      });
    };
    stream.watch = setInterval(() => {
      const silent = Date.now() - stream.heard;
      if (silent < 5000) return;
      draw(kind, { ...stream.snapshot, status: DISCONNECTED, disconnected: true });
      if (stream.source.readyState === EventSource.CLOSED || silent % 10000 < 2000) stream.open();
    }, 2000);
    stream.open();
  };
  const wake = () => {
    if (document.visibilityState === "hidden") return;
    for (const stream of Object.values(streams)) if (Date.now() - stream.heard > 2000) stream.open();
  };

  window.lorry = {
    follow,
    unfollow,
    snapshots,
    // The box is emptied as the question is sent: what is typed from now on is the next question.
    send: (question, accepted) => {
      if (!question.trim()) return;
      unfollow("answers");
      save({ sent: question, typed: "", accepted });
      put(box(), "");
    },
    // ``accepted`` changes once the server has accepted a question; otherwise the question goes back into the box.
    settle: (accepted) => {
      if (!draft.sent) return;
      if (accepted === draft.accepted) put(box(), [draft.sent, box().value].filter(Boolean).join("\n"));
      save({ sent: "" });
    },
    // After a reload: put back what was typed, and what was sent and never accepted.
    restore: (chat) => {
      const last = chat.filter((turn) => turn.role === "user").at(-1)?.content[0].text;
      const sent = draft.sent && draft.sent.trim() !== last ? draft.sent : "";
      const typed = box().value ? "" : draft.typed;
      if (sent || typed) put(box(), [sent, typed, box().value].filter(Boolean).join("\n"));
      save({ sent: "" });
    },
  };

  // On a phone the list of conversations covers the page: it is closed at first, and again after a choice in it.
  const close = () => {
    if (window.innerWidth < 768) document.querySelector(".sidebar.open .toggle-button")?.click();
  };
  // Keys during a composition belong to the input method; Safari marks them only by the key code.
  const composing = (event) => event.isComposing || event.keyCode === 229;
  window.addEventListener("keydown", (event) => composing(event) && event.stopImmediatePropagation(), true);
  document.addEventListener("keydown", (event) => {
    // Escape stops the answer, whatever has the focus.
    if (event.key === "Escape") document.querySelector("#stop")?.click();
  });
  document.addEventListener("click", (event) => {
    if (event.target.closest("#new, #conversations label")) close();
  });
  document.addEventListener("input", (event) => event.target === box() && save({ typed: box().value }));
  for (const [target, event] of [[document, "visibilitychange"], [window, "online"], [window, "pageshow"]]) {
    target.addEventListener(event, wake);
  }
  // An open keyboard makes the page smaller instead of covering its lower end.
  document.querySelector("meta[name=viewport]").content += ", interactive-widget=resizes-content";
  // Also after the window becomes narrow, or the phone is turned.
  window.matchMedia("(max-width: 767px)").addEventListener("change", (event) => event.matches && close());
  close();
}
