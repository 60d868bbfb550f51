// The list of edits: filters, live status, more as one scrolls.

import {
  Component, Failure, Meter, Status, When, all, get, html, isFinal, percent, stateOf, render,
  send, keepState, useEffect, useRef, useState,
} from './api.js'

const PAGE = 50
const REFRESH = 2000
// A list by filters may look at a thousand edits to show a few.
const listAgain = filters => Object.values(filters).some(Boolean) ? 20000 : 4000
const MOST_SINGLE = 10
const STATUSES = ['queued', 'running', 'succeeded', 'failed', 'canceled']

const page = (filters, after) => {
  const values = new URLSearchParams(Object.entries({...filters, after}).filter(([, value]) => value))
  return get(`/v1/edits?limit=${PAGE}&${values}`)
}

function Outcome({edit}) {
  const summary = edit.report_summary
  if (edit.error) return html`<span class="bad">${edit.error.code.replaceAll('_', ' ')}</span>`
  if (edit.status === 'running') {
    return html`<span class="stage"><span>${edit.stage ?? 'starting'}</span><${Meter} value=${edit.progress} label="Progress of the stage" /></span>`
  }
  if (edit.status === 'queued') return html`<span class="soft">${edit.queue_position ? `number ${edit.queue_position} in the queue` : 'waiting'}</span>`
  if (summary?.base === undefined) return html`<span class="soft">${edit.imported ? 'imported' : ''}</span>`
  const said = summary.outcome ?? summary.conclusion
  const color = {success: 'good', confirmed: 'good', harmful: 'bad', exceeded: 'bad'}[said] ?? 'soft'
  return html`
    <span class="outcome" title=${summary.verdict}>
      <span class="figures">${percent(summary.base)} <span aria-label="to">→</span> ${percent(summary.edited)}</span>
      ${said && html`<span class=${color}>${said.replaceAll('_', ' ')}</span>`}
    </span>`
}

class Row extends Component {
  shouldComponentUpdate({edit}) { return edit !== this.props.edit }

  render({edit, cancel}) {
    return html`
      <tr>
        <th scope="row"><a href="/dashboard/edits/${edit.id}">${edit.suffix ?? edit.behavior?.name ?? 'imported'}</a><span class="note id">${edit.id}</span></th>
        <td data-label="Behaviour">${edit.behavior?.name ?? '–'}</td>
        <td data-label="Base model">${edit.base_model}</td>
        <td data-label="Status"><${Status} of=${edit.status} /></td>
        <td data-label="Outcome"><${Outcome} edit=${edit} /></td>
        <td data-label="Made"><${When} at=${edit.created_at} /></td>
        <td class="actions">${!isFinal(edit.status) && html`<button class="quiet" onClick=${() => cancel(edit)}>Cancel<span class="hidden"> ${edit.suffix ?? edit.id}</span></button>`}</td>
      </tr>`
  }
}

const Empty = ({filtered, clear}) => filtered ? html`
  <section class="empty"><h2>No edit fits</h2><p>None of your edits has all that is chosen above.</p>
  <p><button onClick=${clear}>Show all edits</button></p></section>` : html`
  <section class="empty"><h2>No edits yet</h2>
  <p>An edit changes one behaviour of a base model, and comes with a receipt of what it does and what it costs.</p>
  <p><a class="button primary" href="/dashboard/new">Make the first one</a> <a href="/docs">or use the API</a></p></section>`

function Filters({filters, change, bases, behaviors}) {
  const option = name => html`<option value=${name}>${name}</option>`
  const field = (name, label, choices) => html`
    <label>${label}<select name=${name} value=${filters[name] ?? ''} onChange=${event => change({...filters, [name]: event.target.value})}>
      <option value="">all</option>${choices.map(option)}
    </select></label>`
  return html`
    <form class="filters" aria-label="Filters" onSubmit=${event => event.preventDefault()}>
      ${field('status', 'Status', STATUSES)}
      ${field('base_model', 'Base model', bases)}
      ${field('behavior', 'Behaviour', behaviors)}
    </form>`
}

const named = (known, chosen) => [...new Set([...known, ...(chosen ? [chosen] : [])])].sort()

function Edits() {
  const [filters, setFilters] = useState(stateOf)
  const [edits, setEdits] = useState(null)
  const [more, setMore] = useState(null)
  const [error, setError] = useState(null)
  const [bases, setBases] = useState([])
  const [said, say] = useState('')
  const shown = useRef(null)
  shown.current = edits
  const end = useRef(null)
  const loading = useRef(null)
  const listed = useRef(0)
  // Filters are their own generation: what was asked for with others comes too late.
  const now = useRef(filters)
  const late = () => now.current !== filters

  const put = changed => late() || setEdits(before => {
    const known = new Map((before ?? []).map(edit => [edit.id, edit]))
    for (const edit of changed) {
      // What did not change stays the same object, so that its row is not drawn again.
      const old = known.get(edit.id)
      if (!old || JSON.stringify(old) !== JSON.stringify(edit)) known.set(edit.id, edit)
    }
    const fits = edit => (!filters.status || edit.status === filters.status)
    return [...known.values()].filter(fits).sort((a, b) => (a.id < b.id ? 1 : -1))
  })

  const load = async after => {
    if (loading.current === filters) return
    loading.current = filters
    try {
      const found = await page(filters, after)
      if (late()) return
      put(found.data)
      setMore(found.has_more ? found.last_id : null)
      setError(null)
      if (!after) listed.current = Date.now()
    } catch (failure) {
      if (!late()) setError(failure)
    } finally {
      if (!late()) loading.current = null
    }
  }

  const list = async () => {
    put((await page(filters)).data)
    listed.current = Date.now()
  }

  // The oldest that are not done: those that go on next.
  const follow = async () => {
    const open = shown.current.filter(edit => !isFinal(edit.status)).slice(-MOST_SINGLE)
    const found = await Promise.allSettled(open.map(edit => get(`/v1/edits/${edit.id}`)))
    if (late()) return
    const gone = open.filter((_, place) => found[place].reason?.status === 404).map(edit => edit.id)
    if (gone.length) setEdits(before => before.filter(edit => !gone.includes(edit.id)))
    put(found.filter(one => one.value).map(one => one.value))
    const failed = found.find(one => one.reason && one.reason.status !== 404)
    if (failed) throw failed.reason
  }

  const refresh = async () => {
    if (shown.current === null) return load()
    await (Date.now() - listed.current < listAgain(filters) ? follow() : list())
    if (!late()) setError(null)
  }

  const cancel = async edit => {
    try {
      put([await send('POST', `/v1/edits/${edit.id}/cancel`)])
      say(`${edit.suffix ?? edit.id} is canceled`)
    } catch (failure) {
      setError(failure)
    }
  }

  const change = chosen => { now.current = chosen; keepState(chosen); setEdits(null); setMore(null); setError(null); setFilters(chosen) }

  useEffect(() => { all('/v1/base_models').then(found => setBases(found.map(base => base.id)), () => {}) }, [])
  useEffect(() => { load() }, [filters])
  useEffect(() => {
    let timer
    const again = async () => {
      if (!document.hidden) await refresh().catch(failure => late() || setError(failure))
      if (!late()) timer = setTimeout(again, REFRESH)
    }
    timer = setTimeout(again, REFRESH)
    return () => clearTimeout(timer)
  }, [filters])
  useEffect(() => {
    if (!more || !end.current) return undefined
    const seen = new IntersectionObserver(([entry]) => entry.isIntersecting && load(more), {rootMargin: '800px'})
    seen.observe(end.current)
    return () => seen.disconnect()
  }, [more, filters])

  const behaviors = named((edits ?? []).map(edit => edit.behavior?.name).filter(Boolean), filters.behavior)
  const filtered = Object.values(filters).some(Boolean)
  return html`
    ${(filtered || edits?.length > 0) && html`<${Filters} filters=${filters} change=${change} bases=${named(bases, filters.base_model)} behaviors=${behaviors} />`}
    <p class="hidden" role="status">${said}</p>
    ${error && html`<${Failure} error=${error} retry=${() => load()} />`}
    ${edits === null && !error && html`<p class="loading">Loading edits…</p>`}
    ${edits?.length === 0 && !more && html`<${Empty} filtered=${filtered} clear=${() => change({})} />`}
    ${edits?.length > 0 && html`
      <table class="list">
        <caption class="hidden">Edits, newest first</caption>
        <thead><tr><th scope="col">Edit</th><th scope="col">Behaviour</th><th scope="col">Base model</th><th scope="col">Status</th><th scope="col">Outcome</th><th scope="col">Made</th><th scope="col"><span class="hidden">Actions</span></th></tr></thead>
        <tbody>${edits.map(edit => html`<${Row} key=${edit.id} edit=${edit} cancel=${cancel} />`)}</tbody>
      </table>`}
    ${more && html`<p class="more" ref=${end}><button onClick=${() => load(more)}>Show more</button></p>`}`
}

const root = document.getElementById('edits')
root.removeAttribute('aria-busy')
root.textContent = ''
render(html`<${Edits} />`, root)
