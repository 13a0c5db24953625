// What the page does in the browser: it follows answers, keeps what is typed, and stays out of an input method's way.
() => {
  const streams = {};
  const pieces = {};
  const draft = JSON.parse(sessionStorage.getItem("lorry-draft") || "{}");
  const CUT = "⚠ The connection to the page is cut; trying again…";

  const box = () => document.querySelector("#question textarea");
  const save = (news) => sessionStorage.setItem("lorry-draft", JSON.stringify(Object.assign(draft, news)));

  // Gradio takes a value from an input as if somebody had typed it.
  const put = (input, value) => {
    if (!input) return;
    Object.getOwnPropertyDescriptor(Object.getPrototypeOf(input), "value").set.call(input, value);
    input.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const press = (id) => document.getElementById(id)?.click();
  const draw = (kind, piece) => {
    pieces[kind] = piece;
    press(`drawn-${kind}`);
  };

  const letGo = (kind) => {
    streams[kind]?.source?.close();
    clearInterval(streams[kind]?.watch);
    delete streams[kind];
  };
  // A stream that is cut is opened again, and begins with all that has come; a phone that slept may not know of the cut.
  const follow = (kind, id) => {
    if (streams[kind]?.id === id) return;
    letGo(kind);
    const stream = { id, piece: {}, heard: Date.now() };
    streams[kind] = stream;
    stream.open = () => {
      stream.source?.close();
      const source = new EventSource(new URL(`${kind}/${id}`, document.baseURI));
      stream.source = source;
      source.onmessage = (event) => {
        const { more, ...news } = JSON.parse(event.data);
        stream.heard = Date.now();
        stream.piece = { ...stream.piece, ...news, id };
        for (const [key, rest] of Object.entries(more || {})) stream.piece[key] += rest;
        if (news.done) letGo(kind);
        draw(kind, stream.piece);
        if (news.relist) press("relist");
      };
      source.addEventListener("gone", () => {
        letGo(kind);
        if (kind === "answers") press("reopen");
      });
    };
    stream.watch = setInterval(() => {
      const silent = Date.now() - stream.heard;
      if (silent < 5000) return;
      draw(kind, { ...stream.piece, words: CUT, cut: true });
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
    letGo,
    pieces,
    // The question leaves the box as it is sent: what is typed from now on is another one.
    send: (question, asked) => {
      if (!question.trim()) return;
      letGo("answers");
      save({ sent: question, typed: "", asked });
      put(box(), "");
    },
    // ``asked`` has another value once the page has taken a question; one that it has not goes back into the box.
    settle: (asked) => {
      if (!draft.sent) return;
      if (asked === draft.asked) put(box(), [draft.sent, box().value].filter(Boolean).join("\n"));
      save({ sent: "" });
    },
    // After a reload: what was typed, and what was sent and never came to the page.
    restore: (chat) => {
      const last = chat.filter((turn) => turn.role === "user").at(-1)?.content[0].text;
      const sent = draft.sent && draft.sent.trim() !== last ? draft.sent : "";
      const typed = box().value ? "" : draft.typed;
      if (sent || typed) put(box(), [sent, typed, box().value].filter(Boolean).join("\n"));
      save({ sent: "" });
    },
  };

  // On a phone the list of conversations covers the page: it is closed at first, and again once something in it was
  // chosen.
  const close = () => {
    if (window.innerWidth < 768) document.querySelector(".sidebar.open .toggle-button")?.click();
  };
  // A key within a composition belongs to the input method; Safari says so by the code alone.
  const composes = (event) => event.isComposing || event.keyCode === 229;
  window.addEventListener("keydown", (event) => composes(event) && event.stopImmediatePropagation(), true);
  document.addEventListener("keydown", (event) => {
    // Escape stops the answer, from wherever the keyboard is.
    if (event.key === "Escape") document.querySelector("#stop")?.click();
  });
  document.addEventListener("click", (event) => {
    if (event.target.closest("#new, #conversations label")) close();
  });
  document.addEventListener("input", (event) => event.target === box() && save({ typed: box().value }));
  for (const [target, event] of [[document, "visibilitychange"], [window, "online"], [window, "pageshow"]]) {
    target.addEventListener(event, wake);
  }
  // An open keyboard leaves less of the page, and does not cover its lower end.
  document.querySelector("meta[name=viewport]").content += ", interactive-widget=resizes-content";
  // A window that is made narrow, or a phone that is turned, has the list on the page too.
  window.matchMedia("(max-width: 767px)").addEventListener("change", (event) => event.matches && close());
  close();
}
