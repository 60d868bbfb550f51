// An edit: its progress while it is made, exports, and the buttons of the page.

import {
  Failure, Meter, all, duration, get, html, isFinal, newKey, render, request, send, size, useEffect, useRef, useState,
} from './api.js'

const NAMES = {
  load: 'Load the base model', extract: 'Read the texts', probe: 'Fit the probe', select: 'Choose where to write',
  tune: 'Try candidates', evaluate: 'Measure', publish: 'Publish',
}
const EVENTS = ['started', 'stage', 'progress', 'attempt_ended', 'succeeded', 'failed', 'canceled']
const LEAST_DONE = 0.03

function timeLeft(edit, done) {
  if (done < LEAST_DONE || !edit.started_at) return ''
  const left = (Date.now() / 1000 - edit.started_at) * (1 - done) / done
  return left < 60 ? 'less than a minute left' : `about ${Math.round(left / 60)} min left`
}

/** Follows the edit by its events; by asking again and again where there are too many streams. */
function useEdit(first) {
  const [edit, setEdit] = useState(first)
  useEffect(() => {
    let timer
    const poll = async () => {
      const now = await get(`/v1/edits/${first.id}`).catch(() => null)
      if (now && isFinal(now.status)) return location.reload()
      if (now) setEdit(now)
      timer = setTimeout(poll, 2000)
    }
    const stream = new EventSource(`/v1/edits/${first.id}/events`)
    const take = ({type, data: text}) => {
      const {data, created_at} = JSON.parse(text)
      const kind = type.replace('edit.', '')
      if (isFinal(kind)) { stream.close(); return location.reload() }
      if (kind === 'attempt_ended') return setEdit(before => ({...before, stage: null, retried: data.outcome}))
      setEdit(before => ({
        ...before, status: 'running', attempt: data.attempt, stage: data.stage, progress: data.progress,
        started_at: kind === 'started' ? created_at : before.started_at,
      }))
    }
    for (const kind of EVENTS) stream.addEventListener(`edit.${kind}`, take)
    stream.onerror = () => { if (stream.readyState === EventSource.CLOSED) poll() }
    // The place in the queue is no event.
    const waiting = setInterval(async () => {
      const now = await get(`/v1/edits/${first.id}`).catch(() => null)
      if (now?.status === 'queued') setEdit(now)
      else clearInterval(waiting)
    }, 5000)
    return () => { stream.close(); clearTimeout(timer); clearInterval(waiting) }
  }, [])
  return edit
}

function Live({first, stages}) {
  const edit = useEdit(first)
  const [, tick] = useState(0)
  useEffect(() => { const timer = setInterval(() => tick(n => n + 1), 1000); return () => clearInterval(timer) }, [])
  const at = stages.findIndex(([name]) => name === edit.stage)
  // Shares of the edit that are done when a stage begins and when it ends.
  const [, begun, ended] = stages[at] ?? ['', 0, 0]
  const done = begun + (ended - begun) * (edit.progress ?? 0)
  const queued = edit.status === 'queued'
  const elapsed = edit.started_at ? Math.max(0, Date.now() / 1000 - edit.started_at) : 0
  return html`
    <section class="live">
      <div class="summary">
        <p class="now" role="status">${queued ? (edit.queue_position ? `Number ${edit.queue_position} in the queue` : 'Waiting for an editor') : (NAMES[edit.stage] ?? 'Starting')}</p>
        <p class="soft">${queued ? 'It begins by itself; this page follows it.' : [elapsed && `${duration(elapsed)} so far`, timeLeft(edit, done)].filter(Boolean).join(' · ')}</p>
      </div>
      <${Meter} value=${queued ? 0 : done} label="Progress of the edit" />
      <ol class="stages">
        ${stages.map(([stage], place) => html`
          <li class=${place < at ? 'done' : place === at ? 'current' : ''} aria-current=${place === at ? 'step' : undefined}>
            <span>${NAMES[stage]}</span>
            ${place < at && html`<span class="soft">done</span>`}
            ${place === at && edit.progress > 0 && html`<span class="figures">${Math.round(100 * edit.progress)} %</span>`}
          </li>`)}
      </ol>
      ${edit.attempt > 1 && html`<p class="soft">Attempt ${edit.attempt}: the one before was lost.</p>`}
    </section>`
}

function Exports({variant, formats}) {
  const [known, setKnown] = useState([])
  const [sending, setSending] = useState([])
  const [error, setError] = useState(null)
  // A format keeps its key until what came of it is known: sent again, it is the same export.
  const keys = useRef({})
  const put = one => setKnown(before => [one, ...before.filter(({id}) => id !== one.id)])
  const follow = async one => {
    for (put(one); !isFinal(one.status);) put(one = await get(`/v1/exports/${one.id}?wait=20`))
    delete keys.current[one.format]
  }
  const make = async format => {
    setError(null)
    setSending(before => [...before, format])
    const key = keys.current[format] ??= newKey()
    try {
      const made = await send('POST', '/v1/exports', {variant, format}, {'Idempotency-Key': key})
      follow(made).catch(setError)
    } catch (failure) {
      setError(failure)
    } finally {
      setSending(before => before.filter(one => one !== format))
    }
  }
  useEffect(() => {
    all('/v1/exports', 100, {variant}).then(found => found.forEach(one => follow(one).catch(setError)), setError)
  }, [])
  const of = format => known.find(one => one.format === format && one.status !== 'failed') ?? known.find(one => one.format === format)
  return html`
    ${error && html`<${Failure} error=${error} />`}
    <ul class="downloads">${formats.map(format => {
      const one = of(format)
      if (one?.status === 'succeeded') {
        const bytes = one.files.reduce((sum, file) => sum + file.bytes, 0)
        return html`<li><a href="/v1/exports/${one.id}/archive" download>${format}</a><span class="soft">zip, ${size(bytes)}, compared with the variant</span></li>`
      }
      if (one && !isFinal(one.status)) return html`<li><span>${format}</span><span class="soft">${one.status}…</span></li>`
      return html`<li><button class="link" disabled=${sending.includes(format)} onClick=${() => make(format)}>Export as ${format}</button>
        <span class=${one ? 'bad' : 'soft'}>${one ? one.error?.message ?? one.status : 'made when you ask for it'}</span></li>`
    })}</ul>`
}

const say = error => render(error ? html`<${Failure} error=${error} />` : null, document.getElementById('said'))

async function call({dataset: {call: line, then, ask}}) {
  if (ask && !confirm(ask)) return
  const [method, path] = line.split(' ')
  const made = await send(method, path, undefined, method === 'POST' ? {'Idempotency-Key': newKey()} : {})
  if (!then) location.reload()
  else location.assign(then.endsWith('/') ? then + made.id : then)
}

async function save({dataset: {save: path, type, name}}) {
  const response = await request(path, {headers: {Accept: type}})
  const link = Object.assign(document.createElement('a'), {href: URL.createObjectURL(await response.blob()), download: name})
  link.click()
  setTimeout(() => URL.revokeObjectURL(link.href), 1000)
}

async function copy(button) {
  const source = document.getElementById(button.dataset.copy)
  try {
    await navigator.clipboard.writeText(source.textContent)
    button.textContent = 'Copied'
  } catch {
    getSelection().selectAllChildren(source) // no clipboard without https: Ctrl-C does it
  }
}

document.addEventListener('click', event => {
  const button = event.target.closest('button')
  if (!button) return
  const {dataset} = button
  const done = dataset.call ? call(button) : dataset.save ? save(button) : dataset.copy ? copy(button) : null
  done?.catch(say)
})

// A candidate that is pointed at is shown until the pointer leaves; a click keeps it.
const candidates = [...document.querySelectorAll('svg a[href^="#candidate-"]')]
const opened = () => candidates.forEach(link => link.classList.toggle('open', link.getAttribute('href') === location.hash))
addEventListener('hashchange', opened)
opened()
for (const link of candidates) {
  const shown = document.querySelector(link.getAttribute('href'))
  const show = () => shown.classList.add('peek')
  const hide = () => shown.classList.remove('peek')
  link.addEventListener('pointerenter', show)
  link.addEventListener('pointerleave', hide)
  link.addEventListener('focus', show)
  link.addEventListener('blur', hide)
}

const live = document.getElementById('live')
if (live) {
  live.textContent = ''
  render(html`<${Live} first=${JSON.parse(live.dataset.edit)} stages=${JSON.parse(live.dataset.stages)} />`, live)
}
const exports = document.getElementById('exports')
if (exports) render(html`<${Exports} variant=${exports.dataset.variant} formats=${JSON.parse(exports.dataset.formats)} />`, exports)
