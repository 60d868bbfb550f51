// API keys and webhooks: make, rotate, end; deliveries, and sending them again.

import {Failure, When, all, get, html, newKey, render, send, useEffect, useState} from './api.js'

const create = (path, body) => send('POST', path, body, {'Idempotency-Key': newKey()})

const Secret = ({made, hide}) => html`
  <div class="notice" role="status"><p><strong>Keep this secret: it is shown once.</strong></p><p><code>${made}</code></p><p><button onClick=${hide}>I have it</button></p></div>`

const said = error => error.fields?.length ? error.fields.map(one => one.detail).join('; ') : error.message

function NewKey({scopes, made, failed}) {
  const [name, setName] = useState('')
  const [chosen, setChosen] = useState(scopes.filter(([scope]) => ['edits:read', 'edits:write', 'models:generate'].includes(scope)).map(([scope]) => scope))
  const submit = event => {
    event.preventDefault()
    create('/v1/api_keys', {name, scopes: chosen}).then(key => { setName(''); made(key.secret) }, failed)
  }
  const toggle = scope => setChosen(chosen.includes(scope) ? chosen.filter(one => one !== scope) : [...chosen, scope])
  return html`
    <form class="panel" onSubmit=${submit}><h3>New key</h3>
      <div class="field"><label for="key-name">What it is for</label><input id="key-name" required maxlength="100" value=${name} onInput=${event => setName(event.target.value)} /></div>
      <fieldset><legend>Scopes</legend>${scopes.map(([scope, meaning]) => html`<label class="check"><input type="checkbox" checked=${chosen.includes(scope)} onChange=${() => toggle(scope)} /><span><code>${scope}</code> <span class="soft">${meaning}</span></span></label>`)}</fieldset>
      <button disabled=${!chosen.length}>Make the key</button></form>`
}

function Keys({scopes}) {
  const [keys, setKeys] = useState(null)
  const [secret, setSecret] = useState(null)
  const [error, setError] = useState(null)
  const load = () => all('/v1/api_keys').then(setKeys, setError)
  useEffect(() => { load() }, [])
  const made = value => { setSecret(value); setError(null); load() }
  const revoke = key => confirm(`Revoke the key ${key.name}? Programs that use it are refused at once.`) && send('DELETE', `/v1/api_keys/${key.id}`).then(load, setError)
  const rotate = key => create(`/v1/api_keys/${key.id}/rotate`, {overlap_seconds: 86400}).then(one => made(one.secret), setError)
  return html`
    <section class="block"><h2>API keys</h2>
      ${error && html`<${Failure} error=${{...error, message: said(error)}} />`}
      ${secret && html`<${Secret} made=${secret} hide=${() => setSecret(null)} />`}
      ${keys === null && !error && html`<p class="loading">Loading…</p>`}
      ${keys?.length === 0 && html`<p class="soft">No keys yet.</p>`}
      ${keys?.length > 0 && html`<table class="list labelled"><caption class="hidden">API keys</caption>
        <thead><tr><th scope="col">Key</th><th scope="col">Status</th><th scope="col">Scopes</th><th scope="col">Made</th><th scope="col">Used</th><th scope="col"><span class="hidden">Actions</span></th></tr></thead>
        <tbody>${keys.map(key => html`<tr><th scope="row">${key.name}<span class="note id">${key.id}</span></th>
          <td data-label="Status"><span class="chip ${key.status === 'active' ? 'succeeded' : ''}">${key.status}</span></td>
          <td data-label="Scopes">${key.scopes.join(', ')}</td><td data-label="Made"><${When} at=${key.created_at} /></td><td data-label="Used">${key.last_used_at ? html`<${When} at=${key.last_used_at} />` : 'not yet'}</td>
          <td class="actions">${key.status === 'active' && html`<button class="quiet" title="A new secret; the old one is accepted for a day" onClick=${() => rotate(key)}>Rotate</button><button class="quiet danger" onClick=${() => revoke(key)}>Revoke</button>`}</td></tr>`)}</tbody></table>`}
      <${NewKey} scopes=${scopes} made=${made} failed=${setError} />
    </section>`
}

function Deliveries({hook}) {
  const [found, setFound] = useState(null)
  const [error, setError] = useState(null)
  const load = () => get(`/v1/webhooks/${hook.id}/deliveries?limit=20`).then(page => setFound(page.data), setError)
  useEffect(() => { load() }, [])
  const again = one => send('POST', `/v1/webhooks/${hook.id}/deliveries/${encodeURIComponent(one.id)}/retry`).then(load, setError)
  return html`
    ${error && html`<${Failure} error=${error} />`}
    ${found?.length === 0 && html`<p class="soft">Nothing was sent yet.</p>`}
    <ol class="history">${found?.map(one => html`<li><span class="chip">${one.status}</span><span>${one.type} <a href="/dashboard/edits/${one.edit_id}"><code>${one.edit_id}</code></a></span>
      <span class="soft">${one.tries.at(-1)?.error ?? one.tries.at(-1)?.status_code}</span><button onClick=${() => again(one)}>Send again</button></li>`)}</ol>`
}

function Hook({hook, load}) {
  const [open, setOpen] = useState(false)
  const [tested, setTested] = useState(null)
  const [error, setError] = useState(null)
  const path = `/v1/webhooks/${hook.id}`
  const test = () => { setTested('sending…'); send('POST', `${path}/test`).then(one => setTested(one.delivered ? `delivered: ${one.status_code}` : `not delivered: ${one.error ?? one.status_code}`), setError) }
  return html`
    <article class="alias">
      <div class="heading"><h3>${hook.url} <span class="chip ${hook.enabled ? 'succeeded' : 'failed'}">${hook.enabled ? 'enabled' : 'disabled'}</span></h3>
        <div class="buttons"><button onClick=${test}>Test</button><button aria-expanded=${open} onClick=${() => setOpen(!open)}>Deliveries</button>
          <button onClick=${() => send('PATCH', path, {enabled: !hook.enabled}).then(load, setError)}>${hook.enabled ? 'Disable' : 'Enable'}</button>
          <button class="danger" onClick=${() => confirm('Delete this webhook?') && send('DELETE', path).then(load, setError)}>Delete</button></div></div>
      <p class="soft">${hook.description} ${hook.events.join(', ')}${hook.disabled_reason ? `; ${hook.disabled_reason}` : ''}</p>
      ${tested && html`<p role="status">${tested}</p>`}
      ${error && html`<${Failure} error=${error} />`}
      ${open && html`<${Deliveries} hook=${hook} />`}
    </article>`
}

function Hooks() {
  const [hooks, setHooks] = useState(null)
  const [url, setUrl] = useState('')
  const [secret, setSecret] = useState(null)
  const [error, setError] = useState(null)
  const load = () => all('/v1/webhooks').then(setHooks, setError)
  useEffect(() => { load() }, [])
  const make = event => {
    event.preventDefault()
    create('/v1/webhooks', {url}).then(hook => { setSecret(hook.secret); setUrl(''); setError(null); load() }, setError)
  }
  return html`
    <section class="block"><h2>Webhooks</h2><p class="soft">Addresses that receive the events of edits, signed; retried for hours.</p>
      ${error && html`<${Failure} error=${{...error, message: said(error)}} />`}
      ${secret && html`<${Secret} made=${secret} hide=${() => setSecret(null)} />`}
      ${hooks?.map(hook => html`<${Hook} key=${hook.id} hook=${hook} load=${load} />`)}
      ${hooks?.length === 0 && html`<p class="soft">None yet.</p>`}
      <form class="inline" onSubmit=${make}><label>Address <input required type="url" placeholder="https://hooks.example.com/scalpel" value=${url} onInput=${event => setUrl(event.target.value)} /></label><button>Make a webhook</button></form>
    </section>`
}

const root = document.getElementById('admin')
const {scopes} = JSON.parse(root.dataset.given)
root.textContent = ''
render(html`<${Keys} scopes=${scopes} /><${Hooks} />`, root)
