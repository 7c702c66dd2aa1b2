{{- define "tideline.name" -}}
{{- if or (eq .Release.Name "tideline") (eq .Release.Name "kapacity-manager") (eq .Release.Name "karpenter") }}{{ .Release.Name }}{{ else }}{{ printf "%s-tideline" .Release.Name | trunc 63 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- /* Not empty where the release stands in for Kapacity's, by its name: workloads only, with that program's flags. */}}
{{- define "tideline.kapacity" -}}
{{- if eq .Release.Name "kapacity-manager" }}yes{{ end }}
{{- end }}

{{- /* Not empty where workloads are scaled. */}}
{{- define "tideline.workloads" -}}
{{- if or .Values.workloads.enabled (include "tideline.kapacity" .) }}yes{{ end }}
{{- end }}

{{- /* Not empty where NodePools are served; the release name karpenter stands in for Karpenter's, and serves nothing else. */}}
{{- define "tideline.karpenter" -}}
{{- if or .Values.pools.karpenter (eq .Release.Name "karpenter") }}yes{{ end }}
{{- end }}

{{- /* Not empty where pools of Cluster API are served. */}}
{{- define "tideline.clusterApi" -}}
{{- if and .Values.pools.clusterApi (ne .Release.Name "karpenter") }}yes{{ end }}
{{- end }}

{{- define "tideline.selector" -}}
app.kubernetes.io/name: tideline
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tideline.labels" -}}
{{ include "tideline.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "tideline.serviceAccount" -}}
{{- default (include "tideline.name" .) .Values.serviceAccount.name }}
{{- end }}

{{- define "tideline.image" -}}
{{- default (printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag)) .Values.controller.image }}
{{- end }}

{{- /* The image of predictive jobs: that of the values under Kapacity's names, or ours, which is an algorithm as well. */}}
{{- define "tideline.algorithmImage" -}}
{{- with .Values.algorithmJob.defaultImage.horizontalPredictive }}
{{- if .repository }}
{{- if .registry }}{{ .registry }}/{{ end }}{{ .repository }}{{ if .tag }}:{{ .tag }}{{ end }}
{{- else }}
{{- include "tideline.image" $ }}
{{- end }}
{{- end }}
{{- end }}
