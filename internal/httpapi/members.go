package httpapi

import (
	"context"

	"foundry/internal/auth"
	"foundry/internal/httpapi/openapi"
)

func (h *handlers) ListMembers(ctx context.Context, r openapi.ListMembersRequestObject) (openapi.ListMembersResponseObject, error) {
	p := principal(ctx)
	if err := auth.Require(p, auth.MemberRead, auth.Resource{}); err != nil {
		return nil, err
	}
	after, err := decodeID(listMembers, r.Params.Cursor)
	if err != nil {
		return nil, err
	}
	limit := valueOr(r.Params.Limit, pageDefault)
	members, err := h.tokens.Members(ctx, p.OrganizationID, after, limit+1)
	if err != nil {
		return nil, err
	}
	members, next := page(listMembers, members, limit, func(m auth.Member) string { return m.ID.String() })
	answer := openapi.ListMembers200JSONResponse{Data: make([]openapi.Member, 0, len(members)), NextCursor: next}
	for _, member := range members {
		answer.Data = append(answer.Data, memberJSON(member))
	}
	return answer, nil
}

func (h *handlers) UpdateMember(ctx context.Context, r openapi.UpdateMemberRequestObject) (openapi.UpdateMemberResponseObject, error) {
	p := principal(ctx)
	if err := auth.Require(p, auth.MemberManage, auth.Resource{}); err != nil {
		return nil, err
	}
	member, err := h.tokens.SetRole(ctx, actorOf(ctx), p.Role, r.User, auth.Role(r.Body.Role))
	if err != nil {
		return nil, err
	}
	return openapi.UpdateMember200JSONResponse(memberJSON(member)), nil
}

func (h *handlers) RemoveMember(ctx context.Context, r openapi.RemoveMemberRequestObject) (openapi.RemoveMemberResponseObject, error) {
	p := principal(ctx)
	action := auth.MemberManage
	if p.UserID != nil && *p.UserID == r.User {
		action = auth.MemberLeave
	}
	if err := auth.Require(p, action, auth.Resource{}); err != nil {
		return nil, err
	}
	if err := h.tokens.RemoveMember(ctx, actorOf(ctx), p.Role, r.User); err != nil {
		return nil, err
	}
	return openapi.RemoveMember204Response{}, nil
}

func memberJSON(m auth.Member) openapi.Member {
	return openapi.Member{User: userJSON(m.Person), Role: openapi.Role(m.Role), CreatedAt: m.JoinedAt.UTC()}
}
