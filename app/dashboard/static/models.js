// Base models, and aliases: what they stand for, their shares, and the way back.

import {Failure, Status, When, all, get, html, percent, render, send, size, useEffect, useState} from './api.js'

const count = number => (number >= 1e9 ? `${(number / 1e9).toFixed(1)} B` : number >= 1e6 ? `${Math.round(number / 1e6)} M` : `${Math.round(number / 1e3)} k`)

const Bases = ({bases}) => html`
  <table class="list labelled"><caption class="hidden">Base models</caption>
    <thead><tr><th scope="col">Base model</th><th scope="col">Status</th><th scope="col">Architecture</th><th scope="col">Parameters</th><th scope="col">Layers</th><th scope="col">Context</th><th scope="col">Licence</th></tr></thead>
    <tbody>${bases.map(base => html`
      <tr><th scope="row">${base.id}<span class="note">${base.description}</span></th>
        <td data-label="Status"><${Status} of=${base.status} />${base.error && html`<span class="note bad">${base.error.message}</span>`}</td>
        <td data-label="Architecture">${base.architecture ?? '–'}${base.dtype && html`<span class="note">${base.dtype}, ${size(base.bytes)}</span>`}</td>
        <td class="figures" data-label="Parameters">${base.parameters ? count(base.parameters) : '–'}</td>
        <td class="figures" data-label="Layers">${base.layers ?? '–'}</td>
        <td class="figures" data-label="Context">${base.context_length ?? '–'}</td>
        <td data-label="Licence">${base.licence || '–'}</td></tr>`)}</tbody>
  </table>`

/** What each variant gets, in the order of the alias. */
const sharesOf = ({variant, shares}) => {
  const rest = 1 - shares.reduce((sum, share) => sum + share.weight, 0)
  return [{variant, weight: rest}, ...shares]
}

const Shares = ({of}) => html`
  <ul class="shares">${sharesOf(of).map(({variant, weight}) => html`<li><span class="figures">${percent(weight)}</span><meter min="0" max="1" value=${weight} aria-label="Share of the requests"></meter><code>${variant}</code></li>`)}</ul>`

function History({name, version, changed}) {
  const [versions, setVersions] = useState(null)
  const [error, setError] = useState(null)
  useEffect(() => { get(`/v1/aliases/${name}/history?limit=50`).then(page => setVersions(page.data), setError) }, [version])
  const back = async to => {
    setError(null)
    await send('POST', `/v1/aliases/${name}/rollback`, {version: to}).then(changed, setError)
  }
  return html`
    ${error && html`<${Failure} error=${error} />`}
    <ol class="history">${versions?.map(one => html`
      <li><span class="figures">${one.version}</span><span>${one.variant ? html`<${Shares} of=${one} />` : html`<span class="soft">deleted</span>`}</span>
        <span class="soft"><${When} at=${one.at} /></span>
        ${one.variant && one.version !== version ? html`<button onClick=${() => back(one.version)}>Back to this</button>` : html`<span class="soft">${one.version === version ? 'now' : ''}</span>`}</li>`)}</ol>`
}

function Alias({alias, changed}) {
  const [open, setOpen] = useState(false)
  const [variant, setVariant] = useState(alias.variant)
  const [error, setError] = useState(null)
  const change = (method, body) => send(method, `/v1/aliases/${alias.name}`, body).then(() => { setError(null); changed() }, setError)
  return html`
    <article class="alias">
      <div class="heading"><h3>${alias.name} <span class="soft">version ${alias.version}, <${When} at=${alias.updated_at} /></span></h3>
        <div class="buttons"><button aria-expanded=${open} onClick=${() => setOpen(!open)}>${open ? 'Close' : 'Change'}</button>
          <button class="danger" onClick=${() => confirm(`Delete the alias ${alias.name}?`) && change('DELETE')}>Delete</button></div></div>
      <${Shares} of=${alias} />
      ${error && html`<${Failure} error=${error} />`}
      ${open && html`
        <form class="inline" onSubmit=${event => { event.preventDefault(); change('PUT', {variant}) }}>
          <label>Variant <input value=${variant} onInput=${event => setVariant(event.target.value)} /></label><button>Switch all requests</button></form>
        <h4>Versions</h4>
        <${History} name=${alias.name} version=${alias.version} changed=${changed} />`}
    </article>`
}

function NewAlias({changed}) {
  const [form, setForm] = useState({name: '', variant: ''})
  const [error, setError] = useState(null)
  const make = event => {
    event.preventDefault()
    send('PUT', `/v1/aliases/${encodeURIComponent(form.name)}`, {variant: form.variant})
      .then(() => { setForm({name: '', variant: ''}); setError(null); changed() }, setError)
  }
  const field = (name, label, placeholder) => html`<label>${label} <input required placeholder=${placeholder} value=${form[name]} onInput=${event => setForm({...form, [name]: event.target.value})} /></label>`
  return html`
    ${error && html`<${Failure} error=${error} />`}
    <form class="inline" onSubmit=${make}>${field('name', 'Name', 'support-bot')}${field('variant', 'Variant', 'base:edit@0.6')}<button>Make an alias</button></form>`
}

function Models() {
  const [bases, setBases] = useState(null)
  const [aliases, setAliases] = useState(null)
  const [error, setError] = useState(null)
  const load = () => all('/v1/aliases').then(setAliases, setError)
  useEffect(() => { all('/v1/base_models').then(setBases, setError); load() }, [])
  return html`
    ${error && html`<${Failure} error=${error} />`}
    <section class="block"><h2>Base models</h2>
      ${bases?.length === 0 ? html`<p class="soft">None yet. An operator registers one with <code>POST /v1/base_models</code>.</p>` : bases ? html`<${Bases} bases=${bases} />` : html`<p class="loading">Loading…</p>`}</section>
    <section class="block"><h2>Aliases</h2><p class="soft">A name of your own for a variant, which is switched in one step; every version is kept.</p>
      ${aliases?.map(alias => html`<${Alias} key=${alias.name} alias=${alias} changed=${load} />`)}
      ${aliases?.length === 0 && html`<p class="soft">None yet.</p>`}
      <${NewAlias} changed=${load} /></section>`
}

const root = document.getElementById('models')
root.textContent = ''
render(html`<${Models} />`, root)
