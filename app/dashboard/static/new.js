// A new edit: what it is to change, an estimate, and the request.

import {
  ApiError, Failure, all, duration, html, newKey, percent, stateOf, render, send, size, useEffect, useMemo, useRef, useState,
} from './api.js'

const SIDES = [
  ['undesired', 'Texts that show it', 'They will become less likely.'],
  ['desired', 'Texts that do not', 'As alike to the others as can be in all but the behaviour.'],
  ['prompts', 'Prompts that elicit it', 'The edit is measured on them. Without any, beginnings of the texts are used.'],
]
const LABELS = {undesired: 'undesired', desired: 'desired', prompt: 'prompts'}
const EFFORTS = [
  ['quick', 'Quick', 'a few minutes: little is tried, wide intervals'],
  ['standard', 'Standard', 'about ten minutes for a small model'],
  ['thorough', 'Thorough', 'longer: more is tried and measured'],
]

const lines = text => text.split('\n').map(line => line.trim()).filter(Boolean)

/** A text is a line; an item with a prompt or messages is a line of JSON. */
const item = line => {
  if (!line.startsWith('{')) return line
  try { return JSON.parse(line) } catch { return line }
}

/** What a dropped file has for the sides: JSON lines with labels, or a text a line for `side`. */
function sorted(name, text, side) {
  if (!/\.(jsonl|ndjson)$/i.test(name)) return {[side]: lines(text)}
  const found = {undesired: [], desired: [], prompts: []}
  for (const [number, line] of lines(text).entries()) {
    let parsed
    try { parsed = JSON.parse(line) } catch { throw new Error(`${name}, line ${number + 1} is not JSON`) }
    const {label, ...rest} = typeof parsed === 'string' ? {text: parsed} : parsed
    const simple = Object.keys(rest).length === 1 && typeof rest.text === 'string'
    const to = label === undefined ? side : LABELS[label]
    if (!to) throw new Error(`${name}, line ${number + 1}: the label is undesired, desired or prompt`)
    found[to].push(simple ? rest.text.replaceAll('\n', ' ') : JSON.stringify(rest))
  }
  return found
}

/** The request's body for what is in the form. */
function bodyOf(form) {
  const behaviors = {
    preset: () => form.preset,
    own: () => form.own,
    texts: () => ({name: form.name, ...Object.fromEntries(SIDES.map(([side]) => [side, lines(form[side]).map(item)]))}),
    sentence: () => form.draft?.behavior ?? '',
  }
  const body = {base_model: form.base_model, behavior: behaviors[form.kind]()}
  if (form.method !== 'auto') body.method = {type: form.method}
  if (form.effort !== 'standard') body.effort = form.effort
  if (form.suffix) body.suffix = form.suffix
  if (form.seed !== '0') body.seed = numberOr(form.seed)
  if (form.max_kl !== form.usual_kl) body.limits = {max_kl: numberOr(form.max_kl)}
  if (lines(form.preserve).length) body.preserve = lines(form.preserve).map(item)
  return body
}

// What is no number is sent as it is, and the server says what is wrong with it.
const numberOr = text => (text.trim() !== '' && Number.isFinite(Number(text)) ? Number(text) : text)

/** Errors and remarks that belong to a field: its pointer is theirs, or the beginning of it. */
const within = (said, pointer) => said.filter(one => one.pointer === pointer || one.pointer.startsWith(`${pointer}/`))

function where(pointer) {
  const place = pointer.match(/\/(\d+)(\/|$)/)
  return place ? `line ${Number(place[1]) + 1}: ` : ''
}

function Said({id, errors, remarks}) {
  if (!errors.length && !remarks.length) return null
  return html`
    <ul class="said" id=${id}>
      ${errors.map(one => html`<li class="bad">${where(one.pointer)}${one.detail}</li>`)}
      ${remarks.map(one => html`<li class="warn">${one.detail}</li>`)}
    </ul>`
}

function Field({name, pointer, label, hint, said, children}) {
  const id = `field-${name}`
  const errors = within(said.errors, pointer)
  const remarks = within(said.remarks, pointer)
  const described = [hint && `${id}-hint`, (errors.length || remarks.length) && `${id}-said`].filter(Boolean).join(' ')
  return html`
    <div class="field ${errors.length ? 'wrong' : ''}">
      <label for=${id}>${label}</label>
      ${hint && html`<p class="soft" id="${id}-hint">${hint}</p>`}
      ${children({id, name, 'aria-describedby': described || undefined, 'aria-invalid': errors.length ? 'true' : undefined})}
      <${Said} id="${id}-said" errors=${errors} remarks=${remarks} />
    </div>`
}

function Texts({form, set, said}) {
  const [over, setOver] = useState('')
  const [problem, setProblem] = useState('')
  const take = async (files, side) => {
    setOver('')
    setProblem('')
    try {
      const added = {}
      for (const file of files) {
        for (const [to, texts] of Object.entries(sorted(file.name, await file.text(), side))) (added[to] ??= []).push(...texts)
      }
      set(before => Object.fromEntries(Object.entries(added).filter(([, texts]) => texts.length)
        .map(([to, texts]) => [to, [...lines(before[to]), ...texts].join('\n')])))
    } catch (error) {
      setProblem(error.message)
    }
  }
  return html`
    <${Field} name="name" pointer="/behavior/name" label="Name of the behaviour" said=${said}>
      ${field => html`<input ...${field} maxlength="100" value=${form.name} onInput=${event => set({name: event.target.value})} />`}
    <//>
    <p class="soft">A text a line, pasted or from files dropped on a field: plain text, or JSON lines such as <code>${'{"text": "…", "label": "undesired"}'}</code>, which are sorted by their label.</p>
    ${problem && html`<p class="bad" role="alert">${problem}</p>`}
    ${SIDES.map(([side, label, hint]) => html`
      <${Field} name=${side} pointer="/behavior/${side}" label=${label} hint=${hint} said=${said}>
        ${field => html`
          <textarea ...${field} rows="6" class=${over === side ? 'over' : ''} value=${form[side]} spellcheck="false"
            onInput=${event => set({[side]: event.target.value})}
            onDragOver=${event => { event.preventDefault(); setOver(side) }} onDragLeave=${() => setOver('')}
            onDrop=${event => { event.preventDefault(); take([...event.dataTransfer.files], side) }}></textarea>
          <p class="soft below"><span>${lines(form[side]).length} texts</span>
            <label class="file">Choose files<input type="file" multiple accept=".txt,.jsonl,.ndjson" onChange=${event => { take([...event.target.files], side); event.target.value = '' }} /></label></p>`}
      <//>`)}`
}

function Sentence({form, set, said}) {
  const [state, setState] = useState({})
  const draft = async () => {
    setState({busy: true})
    try {
      const body = {sentence: form.sentence, base_model: form.base_model, count: Number(form.count)}
      set({draft: await send('POST', '/v1/behaviors/draft', body)})
      setState({})
    } catch (error) {
      setState({error})
    }
  }
  const wrong = {errors: [...said.errors, ...(state.error?.fields ?? [])], remarks: said.remarks}
  const {draft: drafted} = form
  const pairs = drafted?.samples.undesired.map((one, place) => [one, drafted.samples.desired[place]]) ?? []
  return html`
    <${Field} name="sentence" pointer="/sentence" label="What the edited model should do" said=${wrong}
      hint="The base model answers questions as the sentence says, and the opposite way; look at the texts before you use them.">
      ${field => html`<input ...${field} maxlength="300" placeholder="stop hedging" value=${form.sentence} onInput=${event => set({sentence: event.target.value, draft: null})} />`}
    <//>
    <div class="inline">
      <label>Questions <input type="number" min="10" max="120" value=${form.count} onInput=${event => set({count: event.target.value})} /></label>
      <button type="button" disabled=${state.busy || !form.sentence.trim()} onClick=${draft}>${state.busy ? 'Writing texts…' : drafted ? 'Draft again' : 'Draft texts'}</button>
    </div>
    ${state.error && !state.error.fields?.length && html`<${Failure} error=${state.error} />`}
    ${drafted && html`
      <div class="draft" role="status">
        <p><strong>${drafted.kept} of ${drafted.asked} pairs kept</strong>, written by ${drafted.written_by}${drafted.separability ? `; separable by words: AUC ${drafted.separability.words_auc.toFixed(2)}` : ''}</p>
        ${drafted.note && html`<p class="warn">${drafted.note}</p>`}
        ${pairs.map(([undesired, desired]) => html`
          <div class="sample"><p class="prompt">${undesired.prompt}</p>
            <div><h3>undesired</h3><p class="text">${undesired.completion}</p></div>
            <div><h3>desired</h3><p class="text">${desired?.completion}</p></div></div>`)}
        ${drafted.behavior && html`<p><button type="button" onClick=${() => set(asTexts(drafted.behavior))}>Change the texts</button></p>`}
      </div>`}`
}

const asLine = one => (typeof one === 'string' ? one : one.text && Object.keys(one).length === 1 ? one.text : JSON.stringify(one))

const asTexts = ({name, ...behavior}) => ({
  kind: 'texts', name, ...Object.fromEntries(SIDES.map(([side]) => [side, behavior[side].map(asLine).join('\n')])),
})

function Estimated({estimate}) {
  const {seconds, separability} = estimate
  const figures = [
    ['time', `about ${duration(seconds.total)}`], ['memory', size(estimate.memory_bytes)], ['delta', size(estimate.delta_bytes)],
    ['smallest visible effect', `${Math.round(100 * estimate.smallest_effect)} points`],
    ...(separability ? [['separable by words', `AUC ${separability.words_auc.toFixed(2)}`]] : []),
    ...(separability?.probe_auc != null ? [['by hidden states', `AUC ${separability.probe_auc.toFixed(2)}`]] : []),
    ...(estimate.duplicates ? [['near-duplicates', estimate.duplicates]] : []),
  ]
  return html`
    <div role="status">
      <dl class="figures">${figures.map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`)}</dl>
      ${separability?.note && html`<p class="warn">${separability.note}</p>`}
      ${estimate.warnings.map(one => html`<p class="warn">${one.detail}</p>`)}
      ${!estimate.warnings.length && html`<p class="good">No remarks.</p>`}
    </div>`
}

function New({offered}) {
  const presets = Object.entries(offered.presets)
  const usual_kl = String(offered.max_kl)
  const given = stateOf()
  const [form, setForm] = useState({
    base_model: given.base ?? '', kind: given.behavior?.startsWith('beh_') ? 'own' : 'preset', own: given.behavior ?? '',
    preset: given.behavior in offered.presets ? given.behavior : presets[0]?.[0] ?? '',
    name: '', undesired: '', desired: '', prompts: '', sentence: '', count: '60', draft: null,
    method: 'auto', effort: 'standard', suffix: '', seed: '0', max_kl: usual_kl, usual_kl, preserve: '',
  })
  const [bases, setBases] = useState(null)
  const [owned, setOwned] = useState([])
  const [failure, setFailure] = useState(null)
  const [estimate, setEstimate] = useState(null)
  const [busy, setBusy] = useState('')
  const top = useRef(null)
  const set = change => setForm(before => ({...before, ...(typeof change === 'function' ? change(before) : change)}))
  const body = bodyOf(form)
  const written = JSON.stringify(body)
  // The same request has the same key, so pressing twice makes one edit.
  const key = useMemo(newKey, [written])

  useEffect(() => {
    all('/v1/base_models').then(found => {
      const ready = found.filter(base => base.status === 'succeeded').map(base => base.id)
      setBases(ready)
      set(before => ({base_model: ready.includes(before.base_model) ? before.base_model : ready[0] ?? ''}))
    }, setFailure)
    all('/v1/behaviors', 500, {preset: false}).then(setOwned, () => {})
  }, [])
  useEffect(() => setEstimate(null), [written])

  const post = async (what, path, headers, done) => {
    setBusy(what)
    setFailure(null)
    try {
      done(await send('POST', path, body, headers))
    } catch (error) {
      setFailure(error)
      setBusy('')
      const wrong = () => document.querySelector('[aria-invalid]') ?? top.current
      requestAnimationFrame(() => setTimeout(() => wrong()?.focus()))
    }
  }
  const submit = event => {
    event.preventDefault()
    post('submit', '/v1/edits', {'Idempotency-Key': key}, made => location.assign(`/dashboard/edits/${made.id}`))
  }
  const ask = () => post('estimate', '/v1/edits/estimate', {}, found => { setEstimate(found); setBusy('') })

  const said = {errors: failure?.fields ?? [], remarks: estimate?.warnings ?? []}
  const known = ['/base_model', '/behavior', '/method', '/effort', '/suffix', '/seed', '/limits/max_kl', '/preserve']
  const elsewhere = said.errors.filter(one => !known.some(pointer => within([one], pointer).length))
  const kinds = [['preset', 'A preset'], ['texts', 'Your own texts'], ['sentence', 'One sentence'], ...(owned.length ? [['own', 'Uploaded']] : [])]
  const direct = pointer => ({...said, errors: said.errors.filter(one => one.pointer === pointer)})

  if (bases?.length === 0) {
    return html`<section class="empty"><h2>No base model is ready</h2><p>An operator registers one with <code>POST /v1/base_models</code>; until then there is nothing to edit.</p><p><a href="/docs">The call</a></p></section>`
  }
  return html`
    <form class="form" onSubmit=${submit} noValidate>
      <div>
        <div ref=${top} tabindex="-1">
          ${failure && (!failure.fields?.length || elsewhere.length) ? html`<${Failure} error=${failure} />` : null}
          ${failure?.fields?.length && !elsewhere.length ? html`<p class="notice bad" role="alert">The request is not in order: see below.</p>` : null}
        </div>
        <section>
          <h2>What to change</h2>
          <${Field} name="base_model" pointer="/base_model" label="Base model" said=${said}>
            ${field => html`<select ...${field} value=${form.base_model} onChange=${event => set({base_model: event.target.value})}>${(bases ?? []).map(id => html`<option value=${id}>${id}</option>`)}</select>`}
          <//>
          <fieldset class="tabs"><legend>Behaviour</legend>
            ${kinds.map(([kind, label]) => html`<label><input type="radio" name="kind" value=${kind} checked=${form.kind === kind} onChange=${() => set({kind})} /><span>${label}</span></label>`)}
          </fieldset>
          <${Said} errors=${direct('/behavior').errors} remarks=${[]} />
          ${form.kind === 'preset' && html`
            <div class="cards" role="radiogroup" aria-label="Preset">
              ${presets.map(([name, description]) => html`
                <label class="card"><input type="radio" name="preset" value=${name} checked=${form.preset === name} onChange=${() => set({preset: name})} />
                  <span><strong>${name}</strong><span class="soft">${description}</span></span></label>`)}
            </div>`}
          ${form.kind === 'own' && html`
            <${Field} name="own" pointer="/behavior" label="Uploaded behaviour" said=${{errors: [], remarks: said.remarks}}>
              ${field => html`<select ...${field} value=${form.own} onChange=${event => set({own: event.target.value})}>
                <option value="">choose one</option>${owned.map(one => html`<option value=${one.id}>${one.name} (${one.id})</option>`)}</select>`}
            <//>`}
          ${form.kind === 'texts' && html`<${Texts} form=${form} set=${set} said=${said} />`}
          ${form.kind === 'sentence' && html`<${Sentence} form=${form} set=${set} said=${said} />`}
        </section>
        <section>
          <h2>How</h2>
          <fieldset class="cards three"><legend>Effort</legend>
            ${EFFORTS.map(([value, label, hint]) => html`
              <label class="card"><input type="radio" name="effort" value=${value} checked=${form.effort === value} onChange=${() => set({effort: value})} />
                <span><strong>${label}</strong><span class="soft">${hint}</span></span></label>`)}
          </fieldset>
          <${Field} name="suffix" pointer="/suffix" label="Name" hint="Optional; it is served as ${form.base_model || 'base'}:${form.suffix || 'name'}." said=${said}>
            ${field => html`<input ...${field} placeholder="kinder" autocomplete="off" value=${form.suffix} onInput=${event => set({suffix: event.target.value})} />`}
          <//>
          <details open=${said.errors.some(one => ['/method', '/limits', '/seed', '/preserve'].some(pointer => within([one], pointer).length))}>
            <summary>Method, limits and seed</summary>
            <div class="row">
              <${Field} name="method" pointer="/method" label="Method" said=${said}>
                ${field => html`<select ...${field} value=${form.method} onChange=${event => set({method: event.target.value})}>${offered.methods.map(name => html`<option value=${name}>${name === 'auto' ? 'auto (a search)' : name}</option>`)}</select>`}
              <//>
              <${Field} name="max_kl" pointer="/limits/max_kl" label="Limit on KL" said=${said}>
                ${field => html`<input ...${field} inputmode="decimal" value=${form.max_kl} onInput=${event => set({max_kl: event.target.value})} />`}
              <//>
              <${Field} name="seed" pointer="/seed" label="Seed" said=${said}>
                ${field => html`<input ...${field} inputmode="numeric" value=${form.seed} onInput=${event => set({seed: event.target.value})} />`}
              <//>
            </div>
            <${Field} name="preserve" pointer="/preserve" label="Texts that must not change" hint="Optional; one a line." said=${said}>
              ${field => html`<textarea ...${field} rows="3" value=${form.preserve} onInput=${event => set({preserve: event.target.value})}></textarea>`}
            <//>
          </details>
        </section>
      </div>
      <aside aria-label="Estimate">
        <h2>Before you begin</h2>
        ${estimate ? html`<${Estimated} estimate=${estimate} />` : html`<p class="soft">An estimate reads some of the texts: how long it takes, and what could be better. Nothing is queued.</p>`}
        <div class="buttons">
          <button type="button" disabled=${busy} onClick=${ask}>${busy === 'estimate' ? 'Estimating…' : 'Estimate'}</button>
          <button class="primary" disabled=${busy === 'submit'}>${busy === 'submit' ? 'Queueing…' : 'Make the edit'}</button>
        </div>
      </aside>
    </form>`
}

const root = document.getElementById('new')
const offered = JSON.parse(root.dataset.offered)
root.textContent = ''
render(html`<${New} offered=${offered} />`, root)
