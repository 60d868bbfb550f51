// Base model and edits side by side, as they write. All that is chosen is in the address.

import {Failure, all, html, stateOf, render, keepState, streamed, useEffect, useRef, useState} from './api.js'

const USUAL = {
  base: '', edit: '', strength: '1', second: '', second_strength: '1', mode: '', prompt: '', tokens: '64',
  temperature: '0', seed: '0',
}
const MOST_EDITS = 300

const term = (edit, strength) => (Number(strength) === 1 ? edit : `${edit}@${Number(strength)}`)

const termsOf = terms => (terms ? terms.split('+') : [])

// An edit stands with those that it was fitted on before it. Both choices may have one of them, here
// by its id and there by its suffix: the first counts.
const variantOf = ({base, edit, strength, second, second_strength}, choices) => {
  const terms = new Map()
  for (const one of [...termsOf(edit && term(edit, strength)), ...termsOf(second && term(second, second_strength))]) {
    const name = one.split(/[~@]/)[0]
    const id = choices.find(({suffix}) => suffix === name)?.id ?? name
    if (!terms.has(id)) terms.set(id, one)
  }
  return terms.size ? `${base}:${[...terms.values()].join('+')}` : base
}

function bodyOf(state, choices, chat) {
  const variants = [state.base, variantOf(state, choices)].filter((one, place, them) => them.indexOf(one) === place)
  const asked = chat ? {messages: [{role: 'user', content: state.prompt}]} : {prompt: state.prompt}
  const [max_tokens, temperature, seed] = [state.tokens, state.temperature, state.seed].map(Number)
  return {variants, ...asked, max_tokens, temperature, seed}
}

async function edits(base) {
  const found = await all('/v1/edits', MOST_EDITS, {status: 'succeeded', base_model: base})
  return found.map(({id, suffix, behavior, model}) => ({
    id, suffix, name: model.slice(base.length + 1), label: `${behavior?.name ?? 'imported'}: ${suffix ?? id}`,
  }))
}

function EditChoice({label, name, edit, strength, edits, set, optional}) {
  const known = edits.some(one => one.name === edit) || !edit ? edits : [{name: edit, label: edit}, ...edits]
  const change = event => set({[`${name === 'edit' ? '' : 'second_'}strength`]: event.target.value})
  return html`
    <fieldset class="choice"><legend class="hidden">${label}</legend>
      <label>${label}<select name=${name} value=${edit} onChange=${event => set({[name]: event.target.value})}>
        <option value="">${optional ? 'none' : known.length ? 'choose one' : 'none yet'}</option>
        ${known.map(one => html`<option value=${one.name}>${one.label}</option>`)}
      </select></label>
      ${edit && html`<label class="strength">Strength<output>${Number(strength).toFixed(2)}</output>
        <input type="range" name="${name}_strength" min="-2" max="2" step="0.05" value=${strength} onInput=${event => set({[`${name === 'edit' ? '' : 'second_'}strength`]: event.target.value}, false)} onChange=${change} />
        <span class="ends" aria-hidden="true"><span>opposite</span><span>base</span><span>twice</span></span></label>`}
    </fieldset>`
}

const Answer = ({title, output, busy}) => html`
  <section class="answer" aria-busy=${busy && !output.reason}>
    <h2>${title}${output.variant && html` <code>${output.variant}</code>`}</h2>
    <p class="text ${busy && !output.reason ? 'writing' : ''}">${output.text.trimStart()}</p>
    ${output.reason === 'length' && html`<p class="soft">Cut off at the most tokens.</p>`}
  </section>`

function Playground() {
  const [state, setState] = useState({...USUAL, ...stateOf()})
  const [bases, setBases] = useState(null)
  const [choices, setChoices] = useState([])
  const [outputs, setOutputs] = useState([])
  const [busy, setBusy] = useState(false)
  const [error, setError] = useState(null)
  const [copied, setCopied] = useState(false)
  const running = useRef(null)
  const asked = useRef(false)
  const now = useRef(state)

  const base = bases?.find(one => one.id === state.base)
  const takesChat = base?.chat ?? false
  const chat = takesChat && state.mode !== 'plain'

  const run = async (wanted, asChat) => {
    running.current?.abort()
    if (!wanted.prompt.trim() || !wanted.base) return
    const mine = running.current = new AbortController()
    asked.current = true
    const body = bodyOf(wanted, choices, asChat)
    let found = body.variants.map(variant => ({variant, text: '', reason: null}))
    const put = (index, change) => {
      found = found.map((one, place) => (place === index ? {...one, ...change(one)} : one))
      setOutputs(found)
    }
    setBusy(true)
    setError(null)
    setOutputs(found)
    try {
      for await (const {type, data} of streamed('/v1/compare', body, mine.signal)) {
        if (type === 'comparison.delta') put(data.index, one => ({text: one.text + data.text}))
        else if (type === 'comparison.finished') put(data.index, () => ({reason: data.finish_reason}))
        else if (type === 'error') setError(data)
      }
    } catch (failure) {
      if (failure.name !== 'AbortError') setError(failure)
    } finally {
      if (running.current === mine) setBusy(false)
    }
  }

  const chatOf = wanted => (bases?.find(one => one.id === wanted.base)?.chat ?? false) && wanted.mode !== 'plain'
  // A change of what answers asks again, once there was an answer; `false`: not yet.
  const set = (change, again = true) => {
    const wanted = now.current = {...now.current, ...change}
    setState(wanted)
    keepState(Object.fromEntries(Object.entries(wanted).filter(([name, value]) => value !== USUAL[name])))
    if (again && asked.current && !('prompt' in change)) run(wanted, chatOf(wanted))
  }

  useEffect(() => {
    all('/v1/base_models').then(found => {
      const ready = found.filter(one => one.status === 'succeeded')
      setBases(ready)
      if (!ready.some(one => one.id === now.current.base) && ready.length) set({base: ready[0].id, edit: '', second: ''}, false)
      const chosen = ready.find(one => one.id === now.current.base)
      if (now.current.prompt && chosen) run(now.current, chosen.chat && now.current.mode !== 'plain')
    }, setError)
  }, [])
  useEffect(() => { if (base) edits(base.id).then(setChoices, setError) }, [base?.id])

  const copy = async () => {
    await navigator.clipboard?.writeText(location.href).then(() => setCopied(true), () => {})
    setTimeout(() => setCopied(false), 2000)
  }

  if (bases?.length === 0) {
    return html`<section class="empty"><h2>No base model is ready</h2><p>An operator registers one with <code>POST /v1/base_models</code>.</p></section>`
  }
  const variant = variantOf(state, choices)
  const edited = variant !== state.base
  return html`
    <div class="playground">
      <form aria-label="Settings" onSubmit=${event => { event.preventDefault(); run(now.current, chat) }}>
        <label>Base model<select name="base" value=${state.base} onChange=${event => set({base: event.target.value, edit: '', second: ''})}>${(bases ?? []).map(one => html`<option value=${one.id}>${one.id}</option>`)}</select></label>
        <${EditChoice} label="Edit" name="edit" edit=${state.edit} strength=${state.strength} edits=${choices} set=${set} />
        ${state.edit && html`<${EditChoice} label="Second edit" name="second" edit=${state.second} strength=${state.second_strength} edits=${choices.filter(one => one.name !== state.edit)} set=${set} optional />`}
        ${takesChat && html`
          <fieldset class="tabs"><legend class="hidden">Form of the prompt</legend>
            ${[['', 'Chat'], ['plain', 'Plain text']].map(([mode, label]) => html`<label><input type="radio" name="mode" value=${mode} checked=${state.mode === mode} onChange=${() => set({mode})} /><span>${label}</span></label>`)}
          </fieldset>`}
        <div class="row">
          <label>Seed<input name="seed" type="number" min="0" value=${state.seed} onChange=${event => set({seed: event.target.value})} /></label>
          <label>Tokens<input name="tokens" type="number" min="1" max="4096" value=${state.tokens} onChange=${event => set({tokens: event.target.value})} /></label>
          <label>Temperature<input name="temperature" type="number" min="0" max="2" step="0.1" value=${state.temperature} onChange=${event => set({temperature: event.target.value})} /></label>
        </div>
      </form>
      <div class="talk">
        <form class="ask" onSubmit=${event => { event.preventDefault(); run(now.current, chat) }}>
          <label class="hidden" for="prompt">Prompt</label>
          <textarea id="prompt" rows="3" placeholder=${chat ? 'Ask something' : 'Begin a text'} value=${state.prompt} onInput=${event => set({prompt: event.target.value})}
            onKeyDown=${event => { if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) { event.preventDefault(); run(now.current, chat) } }}></textarea>
          <div class="buttons">
            ${busy ? html`<button type="button" onClick=${() => { running.current?.abort(); setBusy(false) }}>Stop</button>` : html`<button class="primary" disabled=${!state.prompt.trim()}>Answer</button>`}
            <button type="button" class="quiet" onClick=${copy}>${copied ? 'Copied' : 'Copy the link'}</button>
            <span class="soft">Ctrl + Enter</span>
          </div>
        </form>
        ${error && html`<${Failure} error=${error} />`}
        ${outputs.length > 0 ? html`
          <div class="answers">
            ${outputs.map((output, place) => html`<${Answer} title=${place ? 'Edited' : 'Base'} output=${output} busy=${busy} />`)}
          </div>` : html`
          <p class="soft hint">${edited ? html`Base and <code>${variant}</code> answer the same prompt with the same random numbers.`
            : choices.length ? 'Choose an edit to see it beside the base model.'
            : html`No edit of this base model is ready yet: <a href="/dashboard/new#base=${state.base}">make one</a>. Until then the base model answers alone.`}</p>`}
      </div>
    </div>`
}

const root = document.getElementById('playground')
root.textContent = ''
render(html`<${Playground} />`, root)
