// Calls of the API, as every page makes them; and how values are written.

import {html} from './preact-htm.js'

export {html, render, useState, useEffect, useRef, useMemo, Component} from './preact-htm.js'

const token = document.querySelector('meta[name="csrf-token"]').content

/** An error as the API says it: `fields` has what is wrong by JSON pointer. */
export class ApiError extends Error {
  constructor(status, body) {
    // OpenAI's paths have a shape of their own.
    const said = body?.error ?? body ?? {}
    super(said.detail ?? said.message ?? `the server answered ${status}`)
    this.status = status
    this.code = said.code ?? ''
    this.fields = (said.errors ?? []).map(({pointer, detail}) => ({pointer, detail}))
    if (said.param && !this.fields.length) this.fields = [{pointer: asPointer(said.param), detail: this.message}]
  }
}

const asPointer = param =>
  param.startsWith('/') ? param : '/' + param.replaceAll('[', '.').replaceAll(']', '').replaceAll('.', '/')

export async function request(path, {method = 'GET', body, headers = {}, signal} = {}) {
  let response
  try {
    response = await fetch(path, {
      method, signal, credentials: 'same-origin',
      headers: {
        Accept: 'application/json',
        ...(body === undefined ? {} : {'Content-Type': 'application/json'}),
        ...(method === 'GET' ? {} : {'X-CSRF-Token': token}),
        ...headers,
      },
      body: body === undefined ? undefined : JSON.stringify(body),
    })
  } catch (error) {
    if (error.name === 'AbortError') throw error
    throw new ApiError(0, {detail: 'The server cannot be reached.', code: 'unreachable'})
  }
  if (response.status === 401) location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`)
  if (!response.ok) throw new ApiError(response.status, await response.json().catch(() => null))
  return response
}

export const get = async (path, options) => (await request(path, options)).json()

export const send = async (method, path, body, headers) =>
  (await request(path, {method, body, headers})).json()

const MOST_PAGES = 20

/** All of a list that `query` leaves, up to `most`, page by page: with filters, pages may be empty. */
export async function all(path, most = 500, query = {}) {
  const found = []
  const asked = new URLSearchParams({...query, limit: 100})
  for (let pages = 0; found.length < most && pages < MOST_PAGES; pages += 1) {
    const page = await get(`${path}?${asked}`)
    found.push(...page.data)
    if (!page.has_more) break
    asked.set('after', page.last_id)
  }
  return found
}

/** The events of a stream that a POST is answered with. */
export async function* streamed(path, body, signal) {
  const headers = {Accept: 'text/event-stream'}
  const response = await request(path, {method: 'POST', body, headers, signal})
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
  for (let rest = '';;) {
    const {value, done} = await reader.read()
    if (done) return
    const events = (rest + value).split('\n\n')
    rest = events.pop()
    for (const event of events) {
      const of = name => event.split('\n').filter(line => line.startsWith(`${name}:`))
        .map(line => line.slice(name.length + 1).trimStart()).join('\n')
      if (of('data')) yield {type: of('event'), data: JSON.parse(of('data'))}
    }
  }
}

/** A key that makes a request safe to repeat; `randomUUID` is for secure contexts alone. */
export const newKey = () =>
  [...crypto.getRandomValues(new Uint8Array(16))].map(byte => byte.toString(16).padStart(2, '0')).join('')

export const isFinal = status => ['succeeded', 'failed', 'canceled'].includes(status)

export const percent = share => `${(100 * share).toFixed(share && Math.abs(share) < 0.1 ? 1 : 0)} %`

export function duration(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`
  return `${(seconds / 3600).toFixed(1)} h`
}

export const size = bytes =>
  bytes < 1e6 ? `${Math.round(bytes / 1e3)} kB` : bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(1)} GB`

const relative = new Intl.RelativeTimeFormat('en', {numeric: 'auto'})

export function ago(unix) {
  const seconds = unix - Date.now() / 1000
  for (const [unit, length] of [['day', 86400], ['hour', 3600], ['minute', 60]]) {
    if (Math.abs(seconds) >= length) return relative.format(Math.round(seconds / length), unit)
  }
  return 'just now'
}

export const When = ({at}) =>
  html`<time datetime=${new Date(at * 1000).toISOString()} title=${new Date(at * 1000).toLocaleString()}>${ago(at)}</time>`

export const Status = ({of}) => html`<span class="chip ${of}">${of}</span>`

export const Failure = ({error, retry}) => html`
  <div class="notice bad" role="alert">
    <p>${error.message}</p>
    <p>
      ${error.code && error.code !== 'unreachable' && html`<a href="/docs/errors#${error.code}">What <code>${error.code}</code> means</a> `}
      ${retry && html`<button onClick=${retry}>Try again</button>`}
    </p>
  </div>`

export const Meter = ({value, label}) => html`<progress class="meter" max="1" value=${value ?? 0} aria-label=${label}></progress>`

/** What stands behind the address's `#`, which no server and no log gets to see. */
export const stateOf = () => Object.fromEntries(new URLSearchParams(location.hash.slice(1)))

/** Changes it without another entry in the history. */
export function keepState(values) {
  const kept = Object.entries(values).filter(([, value]) => value !== '' && value != null)
  history.replaceState(null, '', kept.length ? `#${new URLSearchParams(kept)}` : location.pathname)
}
