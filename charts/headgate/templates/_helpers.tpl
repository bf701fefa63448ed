{{/*
The name of every object: the release's, or the override. "headgate" is not doubled.
*/}}
{{- define "headgate.fullname" -}}
{{- if .Values.nameOverride }}
{{- .Values.nameOverride | trunc 48 | trimSuffix "-" }}
{{- else if contains "headgate" .Release.Name }}
{{- .Release.Name | trunc 48 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-headgate" .Release.Name | trunc 48 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "headgate.selectorLabels" -}}
app.kubernetes.io/name: headgate
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: controller
{{- end }}

{{- define "headgate.labels" -}}
app.kubernetes.io/name: headgate
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/*
The controller's ServiceAccount. The admission policy lets this account through.
*/}}
{{- define "headgate.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "headgate.fullname" .) .Values.serviceAccount.name }}
{{- else if .Values.serviceAccount.name }}
{{- .Values.serviceAccount.name }}
{{- else }}
{{- fail "serviceAccount.create is false: name the existing ServiceAccount in serviceAccount.name" }}
{{- end }}
{{- end }}

{{/*
An image reference from {repository, tag, digest} and a default tag.
*/}}
{{- define "headgate.imageReference" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .defaultTag }}
{{- end }}
{{- end }}

{{- define "headgate.image" -}}
{{- include "headgate.imageReference" (dict "image" .Values.image "defaultTag" .Chart.AppVersion) }}
{{- end }}

{{- define "headgate.proxyImage" -}}
{{- include "headgate.imageReference" (dict "image" .Values.gateway.proxy.image "defaultTag" "") }}
{{- end }}
