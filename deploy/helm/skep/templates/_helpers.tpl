{{- define "skep.labels" -}}
app.kubernetes.io/name: skep
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "skep.name" -}}
{{- if contains "skep" .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}{{ else }}{{ printf "%s-skep" .Release.Name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "skep.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
