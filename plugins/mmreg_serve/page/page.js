"use strict";
// Asks this service alone; whatever is shown of an answer is set as text, never as markup.

const element = (id) => document.getElementById(id);
let token = null;
let model = null;
const chosen = new Map(); // the file of each column

function make(tag, attributes = {}, ...children) {
  const made = Object.assign(document.createElement(tag), attributes);
  made.append(...children);
  return made;
}

function say(text, wrong = false) {
  element("message").textContent = text;
  element("message").className = wrong ? "wrong" : "";
}

async function ask(path, options = {}) {
  const headers = token === null ? {} : { Authorization: `Bearer ${token}` };
  return fetch(path, { ...options, headers });
}

async function begin() {
  const response = await ask("model");
  if (response.status === 401) {
    element("login").hidden = false;
    if (token !== null) say("This is not the token.", true);
    return;
  }
  if (!response.ok) return say(`The service answers ${response.status}.`, true);
  model = await response.json();
  say("");
  element("login").hidden = true;
  element("inputs").hidden = false;
  element("title").textContent = document.title = `mmreg: ${model.name}`;
  element("columns").replaceChildren(...model.columns.map(field));
}

function field(column) {
  const id = `column-${model.columns.indexOf(column)}`;
  const set = make("fieldset", {}, make("legend", {}, `${column.name} (${column.type})`));
  if (!column.files) {
    const long = column.type !== "tabular";
    const input = make(long ? "textarea" : "input", { id, name: column.name });
    if (!long) input.type = "text";
    input.setAttribute("aria-label", column.name);
    set.append(input);
    return set;
  }
  const input = make("input", { id, type: "file", accept: column.endings.join(",") });
  input.setAttribute("aria-label", column.name);
  const shown = make("div");
  const take = (file) => {
    for (const old of shown.children) URL.revokeObjectURL(old.src);
    shown.replaceChildren();
    if (!file) return chosen.delete(column.name);
    chosen.set(column.name, file);
    const tag = { image: "img", audio: "audio", video: "video" }[column.type];
    if (!tag) return shown.append(file.name);
    const player = make(tag, { src: URL.createObjectURL(file), controls: true });
    if (tag === "img") player.alt = `The picture chosen for ${column.name}`;
    shown.append(player);
  };
  input.addEventListener("change", () => take(input.files[0]));
  const over = (on) => (event) => { event.preventDefault(); set.classList.toggle("over", on); };
  set.addEventListener("dragover", over(true));
  set.addEventListener("dragleave", over(false));
  set.addEventListener("drop", (event) => {
    over(false)(event);
    if (event.dataTransfer.files.length) { input.value = ""; take(event.dataTransfer.files[0]); }
  });
  set.append(input);
  if (column.type === "audio") set.append(recorder(input, take));
  const clear = make("button", { type: "button", textContent: "Clear" });
  clear.addEventListener("click", () => { input.value = ""; take(null); });
  set.append(clear, shown);
  return set;
}

function recorder(input, take) {
  const button = make("button", { type: "button", textContent: "Record" });
  let recording = null;
  button.addEventListener("click", async () => {
    if (recording) return recording.stop();
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
      const parts = [];
      recording = new MediaRecorder(stream);
      recording.addEventListener("dataavailable", (event) => parts.push(event.data));
      recording.addEventListener("stop", async () => {
        stream.getTracks().forEach((track) => track.stop());
        recording = null;
        button.textContent = "Record";
        try {
          const context = new AudioContext();
          const sound = await context.decodeAudioData(await new Blob(parts).arrayBuffer());
          await context.close();
          input.value = "";
          take(new File([wav(sound)], "recording.wav", { type: "audio/wav" }));
        } catch (error) { say(`The recording cannot be used: ${error.message}`, true); }
      });
      recording.start();
      button.textContent = "Stop";
    } catch (error) { say(`Nothing can be recorded: ${error.message}`, true); }
  });
  return button;
}

// What browsers record are formats of their own; WAV is read by every run.
function wav(sound) {
  const channels = Array.from({ length: sound.numberOfChannels }, (_, n) => sound.getChannelData(n));
  const view = new DataView(new ArrayBuffer(44 + 2 * sound.length));
  const text = (at, letters) => [...letters].forEach((each, n) => view.setUint8(at + n, each.charCodeAt(0)));
  text(0, "RIFF"); view.setUint32(4, 36 + 2 * sound.length, true); text(8, "WAVEfmt ");
  view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, 1, true);
  view.setUint32(24, sound.sampleRate, true); view.setUint32(28, 2 * sound.sampleRate, true);
  view.setUint16(32, 2, true); view.setUint16(34, 16, true);
  text(36, "data"); view.setUint32(40, 2 * sound.length, true);
  for (let at = 0; at < sound.length; at++) {
    const mean = channels.reduce((sum, channel) => sum + channel[at], 0) / channels.length;
    view.setInt16(44 + 2 * at, Math.round(32767 * Math.max(-1, Math.min(1, mean))), true);
  }
  return view.buffer;
}

async function predict() {
  const form = new FormData();
  for (const column of model.columns) {
    const given = column.files ? chosen.get(column.name) : element("inputs").elements[column.name]?.value;
    if (given) form.append(column.name, given);
  }
  if (![...form.keys()].length) return say("Give a value for one of the inputs.", true);
  say("Asking ...");
  element("predict").disabled = true;
  try {
    form.append("shares", "true");
    let response = await ask("predict", { method: "POST", body: form });
    if (response.status === 422) { // where shares cannot be told, the prediction can
      form.delete("shares");
      const plain = await ask("predict", { method: "POST", body: form });
      if (plain.ok) response = plain;
    }
    const answer = await response.json();
    if (!response.ok) return say(answer.detail, true);
    say("");
    show(answer.predictions[0]);
  } catch (error) {
    say(`The service does not answer: ${error.message}`, true);
  } finally {
    element("predict").disabled = false;
  }
}

function bar(name, value) {
  const meter = make("meter", { min: 0, max: 1, value });
  meter.setAttribute("aria-label", name);
  return make("div", { className: "bar" }, make("span", {}, name), meter, make("span", {}, `${(100 * value).toFixed(1)}%`));
}

function show(row) {
  const entries = Object.entries(row.prediction);
  const probabilities = entries.filter(([name]) => name.startsWith("probability_")).sort((a, b) => b[1] - a[1]);
  const others = entries.filter(([name]) => !name.startsWith("probability"));
  element("answer").textContent = others.map(([name, value]) => `${name}: ${JSON.stringify(value)}`).join(", ");
  element("bars").replaceChildren(...probabilities.map(([name, value]) => bar(name.slice(12), value)));
  const shares = Object.entries(row.shares ?? {});
  element("shares-title").hidden = !shares.length;
  element("shares").replaceChildren(...shares.map(([name, value]) => bar(name, value)));
  element("result").hidden = false;
  element("result").scrollIntoView({ block: "nearest" });
}

element("login").addEventListener("submit", (event) => {
  event.preventDefault();
  token = element("token").value;
  begin();
});
element("inputs").addEventListener("submit", (event) => { event.preventDefault(); predict(); });
begin();
