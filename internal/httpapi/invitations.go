package httpapi

import (
	"context"

	"foundry/internal/auth"
	"foundry/internal/httpapi/openapi"
)

func (h *handlers) ListInvitations(ctx context.Context, r openapi.ListInvitationsRequestObject) (openapi.ListInvitationsResponseObject, error) {
	p := principal(ctx)
	if err := auth.Require(p, auth.MemberManage, auth.Resource{}); err != nil {
		return nil, err
	}
	before, err := decodeID(listInvitations, r.Params.Cursor)
	if err != nil {
		return nil, err
	}
	limit := valueOr(r.Params.Limit, pageDefault)
	invitations, err := h.tokens.Invitations(ctx, p.OrganizationID, before, limit+1)
	if err != nil {
		return nil, err
	}
	invitations, next := page(listInvitations, invitations, limit, func(i auth.Invitation) string { return i.ID.String() })
	answer := openapi.ListInvitations200JSONResponse{Data: make([]openapi.Invitation, 0, len(invitations)), NextCursor: next}
	for _, invitation := range invitations {
		answer.Data = append(answer.Data, invitationJSON(invitation))
	}
	return answer, nil
}

func (h *handlers) CreateInvitation(ctx context.Context, r openapi.CreateInvitationRequestObject) (openapi.CreateInvitationResponseObject, error) {
	p := principal(ctx)
	if err := auth.Require(p, auth.MemberManage, auth.Resource{}); err != nil {
		return nil, err
	}
	invitation, token, err := h.tokens.Invite(ctx, actorOf(ctx), p, r.Body.Email, auth.Role(r.Body.Role))
	if err != nil {
		return nil, err
	}
	shown := invitationJSON(invitation)
	return openapi.CreateInvitation201JSONResponse{
		Body: openapi.InvitationCreated{
			ID: shown.ID, Email: shown.Email, Role: shown.Role, InvitedBy: shown.InvitedBy, CreatedAt: shown.CreatedAt,
			ExpiresAt: shown.ExpiresAt, Link: originOf(ctx).base + "/join?token=" + token.Reveal(),
		},
		Headers: openapi.CreateInvitation201ResponseHeaders{Location: apiPrefix + "/invitations/" + invitation.ID.String()},
	}, nil
}

func (h *handlers) DeleteInvitation(ctx context.Context, r openapi.DeleteInvitationRequestObject) (openapi.DeleteInvitationResponseObject, error) {
	if err := auth.Require(principal(ctx), auth.MemberManage, auth.Resource{}); err != nil {
		return nil, err
	}
	if err := h.tokens.Withdraw(ctx, actorOf(ctx), r.Invitation); err != nil {
		return nil, err
	}
	return openapi.DeleteInvitation204Response{}, nil
}

func (h *handlers) AcceptInvitation(ctx context.Context, r openapi.AcceptInvitationRequestObject) (openapi.AcceptInvitationResponseObject, error) {
	from := originOf(ctx)
	session, err := h.tokens.Accept(ctx, auth.Acceptance{
		Token: r.Body.Token, Name: r.Body.Name, Password: r.Body.Password, From: from.Origin,
	})
	if err != nil {
		return nil, err
	}
	return openapi.AcceptInvitation200JSONResponse{
		Body: signedInJSON(session), Headers: openapi.AcceptInvitation200ResponseHeaders{SetCookie: cookieOf(session, from).String()},
	}, nil
}

func invitationJSON(i auth.Invitation) openapi.Invitation {
	return openapi.Invitation{
		ID: i.ID, Email: i.Email, Role: openapi.Role(i.Role), InvitedBy: i.InvitedBy, CreatedAt: i.CreatedAt.UTC(), ExpiresAt: i.ExpiresAt.UTC(),
	}
}
