// Behaviours: presets and one's own, their texts, and how separable the two sides are.

import {Failure, When, all, get, html, keepState, render, send, stateOf, useEffect, useState} from './api.js'

const AT_ONCE = 50
const SIDES = ['undesired', 'desired', 'prompts']

const written = item => {
  if (typeof item === 'string') return item
  if (item.messages) return item.messages.map(one => `${one.role}: ${one.content}`).join('\n')
  return item.text ?? `${item.prompt}${item.completion ? `\n→ ${item.completion}` : ''}`
}

function Side({name, items}) {
  const [shown, setShown] = useState(AT_ONCE)
  return html`
    <section class="side"><h3>${name} <span class="soft">${items.length}</span></h3>
      <ul>${items.slice(0, shown).map(item => html`<li class="text">${written(item)}</li>`)}</ul>
      ${shown < items.length && html`<button class="quiet" onClick=${() => setShown(shown + 4 * AT_ONCE)}>Show more</button>`}
    </section>`
}

function Separability({id, bases}) {
  const [base, setBase] = useState(bases[0])
  const [state, setState] = useState({})
  const ask = async () => {
    setState({busy: true})
    try {
      setState({estimate: await send('POST', '/v1/edits/estimate', {base_model: base, behavior: id})})
    } catch (error) {
      setState({error})
    }
  }
  const found = state.estimate?.separability
  const figures = found ? [['by words alone', found.words_auc], ['by length alone', found.length_auc], ['by hidden states', found.probe_auc]] : []
  return html`
    <section><h3>Separability</h3>
      <div class="inline">
        <label>Base model<select value=${base} onChange=${event => setBase(event.target.value)}>${bases.map(one => html`<option value=${one}>${one}</option>`)}</select></label>
        <button disabled=${state.busy || !base} onClick=${ask}>${state.busy ? 'Reading texts…' : 'Measure'}</button>
      </div>
      ${state.error && html`<${Failure} error=${state.error} />`}
      ${found && html`<dl class="figures narrow" role="status">${figures.filter(([, auc]) => auc != null).map(([name, auc]) => html`<dt>${name}</dt><dd>AUC ${auc.toFixed(2)}</dd>`)}</dl>`}
      ${found?.note && html`<p class="warn">${found.note}</p>`}
      ${state.estimate?.warnings.map(one => html`<p class="warn">${one.detail}</p>`)}
    </section>`
}

function Detail({id, bases, removed}) {
  const [behavior, setBehavior] = useState(null)
  const [error, setError] = useState(null)
  useEffect(() => {
    setBehavior(null)
    setError(null)
    get(`/v1/behaviors/${encodeURIComponent(id)}`).then(setBehavior, setError)
  }, [id])
  const remove = async () => {
    if (!confirm('Delete this behaviour? Edits made from it keep a copy of the texts.')) return
    await send('DELETE', `/v1/behaviors/${id}`).then(removed, setError)
  }
  if (error) return html`<${Failure} error=${error} />`
  if (!behavior) return html`<p class="loading">Loading the texts…</p>`
  return html`
    <article>
      <div class="heading"><div><h2>${behavior.name}</h2><p class="soft">${behavior.description}</p></div>
        <div class="buttons"><a class="button" href="/dashboard/new#behavior=${behavior.id ?? behavior.name}">Edit with it</a>
          ${behavior.id && html`<button class="danger" onClick=${remove}>Delete</button>`}</div></div>
      <p class="soft facts">${behavior.scorers.length > 0 && html`<span>scorers <strong>${behavior.scorers.join(', ')}</strong></span>`}
        <span>through the chat template <strong>${behavior.chat ? 'yes' : 'no'}</strong></span>
        <span>up to <strong>${behavior.max_new_tokens} tokens</strong></span>
        <span><code>${behavior.sha256.slice(0, 19)}…</code></span></p>
      ${bases.length > 0 && html`<${Separability} key=${id} id=${id} bases=${bases} />`}
      <div class="sides">${SIDES.map(side => html`<${Side} key=${id + side} name=${side} items=${behavior[side]} />`)}</div>
    </article>`
}

function Behaviors({presets}) {
  const [chosen, setChosen] = useState(stateOf().id ?? '')
  const [owned, setOwned] = useState(null)
  const [bases, setBases] = useState([])
  const [error, setError] = useState(null)
  const load = () => all('/v1/behaviors', 500, {preset: false}).then(setOwned, setError)
  useEffect(() => {
    load()
    all('/v1/base_models').then(found => setBases(found.filter(one => one.status === 'succeeded').map(one => one.id)), () => {})
  }, [])
  const choose = id => { keepState({id}); setChosen(id) }
  const entry = (id, name, note) => html`
    <li><button aria-current=${chosen === id ? 'true' : undefined} onClick=${() => choose(id)}><span>${name}</span><span class="soft">${note}</span></button></li>`
  return html`
    ${error && html`<${Failure} error=${error} retry=${load} />`}
    <div class="panes">
      <nav aria-label="Behaviours">
        <h2>Presets</h2>
        <ul>${presets.map(name => entry(name, name, ''))}</ul>
        <h2>Your own</h2>
        ${owned?.length === 0 && html`<p class="soft">None yet: <code>POST /v1/behaviors</code> keeps one for many edits.</p>`}
        <ul>${owned?.map(one => entry(one.id, one.name, html`<${When} at=${one.created_at} />`))}</ul>
      </nav>
      ${chosen ? html`<${Detail} id=${chosen} bases=${bases} removed=${() => { choose(''); load() }} />`
        : html`<section class="empty"><h2>Choose a behaviour</h2><p>A behaviour is texts that show it, texts that do not, and prompts that elicit it.</p></section>`}
    </div>`
}

const root = document.getElementById('behaviors')
const {presets} = JSON.parse(root.dataset.given)
root.textContent = ''
render(html`<${Behaviors} presets=${presets} />`, root)
